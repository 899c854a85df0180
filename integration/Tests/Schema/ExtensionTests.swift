import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// An extension of our own, whose tables hold rows of the user's.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)), .ownServers)
struct ExtensionTests {
  @Test("An extension arrives in the source's version, with the user's rows in its tables as they are last")
  func configuration() async throws {
    let name = "replicate_probe_\(getpid())"
    try await Self.withFiles(of: name) {
      try await Scene.run("extension") { scene in
        try await scene.source(
          "CREATE SCHEMA \"Ext\"", "CREATE EXTENSION \(name) SCHEMA \"Ext\" VERSION '1'",
          "INSERT INTO \"Ext\".place VALUES (10, 'mine'), (11, NULL)",
          "INSERT INTO \"Ext\".remark VALUES (10, 'of mine'), (1, 'of the extension''s')",
          "SELECT setval('\"Ext\".counter', 41)",
          "CREATE TABLE t (id int PRIMARY KEY, place int CHECK (\"Ext\".known(place)))",
          "INSERT INTO t VALUES (1, 10)")
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        let version = "SELECT extversion FROM pg_extension WHERE extname = '\(name)'"
        #expect(try await scene.targetValue(version) == "1")
        try await Self.expectEqual(scene)
        try await scene.source(
          "INSERT INTO \"Ext\".place VALUES (12, 'later')", "DELETE FROM \"Ext\".place WHERE id = 11",
          "UPDATE \"Ext\".remark SET body = 'changed' WHERE id = 10", "SELECT nextval('\"Ext\".counter')")
        let cutover = try await scene.replicate.run("cutover", "--yes")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        try await Self.expectEqual(scene)
        let counter = "SELECT last_value || ' ' || is_called FROM \"Ext\".counter"
        #expect(try await scene.targetValue(counter) == "42 true")
      }
    }
  }

  @Test("An extension's table that is excluded keeps the rows that the target has")
  func excluded() async throws {
    let name = "replicate_left_\(getpid())"
    try await Self.withFiles(of: name) {
      try await Scene.run("extensionleft") { scene in
        try await scene.source(
          "CREATE SCHEMA ext", "CREATE EXTENSION \(name) SCHEMA ext",
          "INSERT INTO ext.place VALUES (10, 'mine')")
        let engine = try await scene.start("--exclude-table", "ext.place")
        try await scene.waitUntilReady(engine)
        let rows = "SELECT string_agg(id::text, ',') FROM ext.place"
        #expect(try await scene.targetValue(rows) == "1")
        let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(try await scene.targetValue(rows) == "1")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      }
    }
  }

  @Test(
    "No fence stops writes to an extension's table: they are waited for, and what was committed arrives")
  func writtenAfterFence() async throws {
    let name = "replicate_late_\(getpid())"
    try await Self.withFiles(of: name) {
      try await Scene.run("extensionlate") { scene in
        try await scene.source("CREATE SCHEMA \"Ext\"", "CREATE EXTENSION \(name) SCHEMA \"Ext\"")
        try await scene.source("INSERT INTO \"Ext\".remark VALUES (1, 'of the extension''s')")
        let writer = try await SQLSession(scene.databases.source)
        func insert(_ id: Int) async throws {
          try await writer.execute("BEGIN \\; INSERT INTO \"Ext\".place VALUES (\(id), 'late')")
        }

        let first = try await scene.start()
        try await scene.waitUntilReady(first)
        try await insert(20)
        let early = try await scene.replicate.run("cutover", "--yes", "--timeout", "2s")
        #expect(early.exitCode == 5, "\(early.errors)")
        #expect(early.errors.contains("still open: pid"), "\(early.errors)")
        try await writer.execute("COMMIT")
        first.terminate()
        #expect(try await first.waitForEnd(within: .seconds(20)) == 0, "\(first.errors)")

        for (id, exitCode) in [(21, Int32(5)), (22, 0)] {
          let held = try await HoldingPoint("before verify")
          let engine = try await scene.start(meeting: held.failpoint)
          try await scene.waitUntilReady(engine)
          let cutover = try await scene.replicate.start("cutover", "--yes", "--verify", "full")
          try await held.wait(for: engine)
          try await insert(id)
          if exitCode == 0 { try await writer.execute("COMMIT") }
          try held.release()
          #expect(
            try await cutover.waitForEnd(within: .seconds(40)) == exitCode,
            "\(cutover.errors)\(engine.errors)")
          let words = "tables of extensions are being written, which no fence stops: pid"
          #expect(cutover.errors.contains(words) == (exitCode == 5), "\(cutover.errors)")
          if exitCode == 5 {
            try await writer.execute("COMMIT")
            engine.terminate()
          }
          #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        }
        try await Self.expectEqual(scene)
        #expect(try await scene.targetValue("SELECT count(*) FROM \"Ext\".place WHERE id > 19") == "3")
        let timeline = try #require(try await scene.status().cutover).timeline
        let opening = timeline.first { $0.step == "open" }
        #expect(opening?.detail.contains("1 table of an extension again") == true, "\(timeline)")
        await writer.close()
      }
    }
  }

  private static func expectEqual(_ scene: Scene) async throws {
    for table in ["place", "remark"] {
      let rows = "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM \"Ext\".\(table) AS t"
      let expected = try await scene.sourceValue(rows)
      #expect(expected != nil)
      #expect(try await scene.targetValue(rows) == expected)
    }
  }

  private static func withFiles(
    of name: String, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Void
  ) async throws {
    let files = [
      "\(name).control": "default_version = '2'\nrelocatable = false\n", "\(name)--1.sql": first,
      "\(name)--2.sql": first + "CREATE FUNCTION second() RETURNS int LANGUAGE sql AS 'SELECT 2';\n",
    ]
    try await ExtensionFiles.with(files, body)
  }

  private static let first = """
    CREATE TABLE place (id int PRIMARY KEY, name text);
    INSERT INTO place VALUES (1, 'built in');
    SELECT pg_catalog.pg_extension_config_dump('place', 'WHERE id >= 10');
    CREATE TABLE remark (id int REFERENCES place, body text,
      letters int GENERATED ALWAYS AS (length(body)) STORED);
    SELECT pg_catalog.pg_extension_config_dump('remark', '');
    CREATE SEQUENCE counter;
    SELECT pg_catalog.pg_extension_config_dump('counter', '');
    CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql STABLE AS
      'SELECT EXISTS (SELECT FROM @extschema@.place WHERE id = $1)';

    """
}
