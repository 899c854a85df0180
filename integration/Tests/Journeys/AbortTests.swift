import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// `replicate abort` leaves no trace, whenever it is asked.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(3)))
struct AbortTests {
  @Test("Aborted while it streams, with the engine running, nothing stays on either end")
  func streaming() async throws {
    try await Scene.run("abort") { scene in
      try await prepare(scene)
      let engine = try await scene.start("--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      let abort = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 1)
      try await expectNoTrace(scene)
      try await scene.source("UPDATE nokey SET body = 'after'")
    }
  }

  @Test("Aborted in the middle of the copy, after a kill, nothing stays on either end")
  func copying() async throws {
    try await Scene.run("abortcopy") { scene in
      try await prepare(scene)
      for table in 1...20 {
        try await scene.source(
          """
          CREATE TABLE t\(table) AS
            SELECT i AS id, repeat('x', 300) AS body FROM generate_series(1, 20000) i
          """,
          "ALTER TABLE t\(table) ADD PRIMARY KEY (id)")
      }
      let engine = try await scene.start("--replica-identity", "full", "--jobs", "1")
      try await scene.waitUntil("the copy", engine) { $0.phase == .copy && $0.copy.tablesDone > 0 }
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      let abort = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
      try await expectNoTrace(scene)
    }
  }

  @Test("Aborted while the fence is up, the source takes writes again and nothing stays")
  func fenced() async throws {
    try await Scene.run("abortfence") { scene in
      try await prepare(scene)
      let engine = try await scene.start("--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      try await scene.armByFailing()
      let idle = try await SQLSession(scene.databases.source)
      try await idle.execute("BEGIN")
      try await idle.execute("INSERT INTO keyed VALUES (1000)")
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await scene.waitForFence(cutover)
      let abort = try await scene.replicate.start("abort", "--yes", "--drop-target-data")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 1)
      #expect(try await scene.refusal(of: "DELETE FROM nokey", on: scene.databases.source) == nil)
      try await idle.execute("COMMIT")
      await idle.close()
      #expect(try await abort.waitForEnd(within: .seconds(60)) == 0, "\(abort.errors)")
      try await cutover.end()
      try await expectNoTrace(scene)
    }
  }

  @Test("Without --drop-target-data the target keeps its tables, and a new start says what to do")
  func keepsTarget() async throws {
    try await Scene.run("abortkeep") { scene in
      try await prepare(scene)
      let engine = try await scene.start("--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      let abort = try await scene.replicate.run("abort", "--yes")
      #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
      #expect(try await scene.tracesOnSource() == ["trigger mine on keyed"])
      #expect(try await scene.targetValue("SELECT count(*) FROM keyed") == "100")
      #expect(try await scene.refusal(of: "DELETE FROM keyed", on: scene.databases.target) == nil)
      #expect(try await scene.status().phase == .aborted)
      let start = try await scene.replicate.run("start")
      #expect(start.exitCode == 64)
      #expect(start.errors.contains("--drop-target-data"))
      let rest = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(rest.exitCode == 0, "\(rest.output)\(rest.errors)")
      #expect(try await scene.tracesOnTarget() == [])
    }
  }

  @Test("Of the target everything goes that the migration brought, and nothing that was there before")
  func keepsWhatWasThere() async throws {
    try await Scene.run("abortthere") { scene in
      try await scene.target(
        "CREATE EXTENSION citext", "GRANT CREATE ON SCHEMA public TO PUBLIC")
      try await scene.source(
        "CREATE EXTENSION citext", "CREATE EXTENSION hstore",
        "CREATE TYPE mood AS ENUM ('ok')", "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        "CREATE FUNCTION twice(n positive) RETURNS int LANGUAGE sql AS 'SELECT n * 2'",
        "CREATE PROCEDURE nothing() LANGUAGE sql AS ''",
        "CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)",
        "CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)",
        "CREATE TABLE t (id int PRIMARY KEY, name citext, h hstore, m mood)",
        "CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
        "CREATE STATISTICS spread ON id, m FROM t", "CREATE VIEW v AS SELECT * FROM t",
        "CREATE MATERIALIZED VIEW mv AS SELECT * FROM v",
        "CREATE TEXT SEARCH CONFIGURATION words (COPY = english)", "CREATE COLLATION byte (LOCALE = 'C')")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let abort = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
      _ = try await engine.waitForEnd(within: .seconds(20))
      let extensions = "SELECT string_agg(extname, ',') FROM pg_extension WHERE extname <> 'plpgsql'"
      #expect(try await scene.targetValue(extensions) == "citext")
      let left = try await scene.targetValue(
        """
        SELECT string_agg(pg_describe_object(classid, objid, 0), ', ') FROM pg_depend d
        WHERE refclassid = 'pg_namespace'::regclass AND refobjid = 'public'::regnamespace
          AND classid <> 'pg_extension'::regclass AND NOT EXISTS (SELECT FROM pg_depend e
            WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
        """)
      #expect(left == nil)
      let again = try await scene.start()
      try await scene.waitUntilReady(again)
      again.terminate()
      #expect(try await again.waitForEnd(within: .seconds(20)) == 0)
    }
  }

  @Test("After the cutover there is no way back through abort")
  func afterSeal() async throws {
    try await Scene.run("abortlate") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
      let abort = try await scene.replicate.run("abort", "--yes")
      #expect(abort.exitCode == 64, "\(abort.output)\(abort.errors)")
      #expect(
        try await scene.refusal(of: "INSERT INTO t VALUES (1)", on: scene.databases.source) == "25006")
    }
  }

  @Test(
    "An abort that the seal overtakes changes nothing: the source stays closed, the target keeps all",
    arguments: ["after seal", "after open"])
  func overtaken(_ step: String) async throws {
    try await Scene.run("abortlost") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let (held, asked) = try await (HoldingPoint(step), HoldingPoint("before stopping the engine"))
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let abort = try await scene.replicate.with(
        ["REPLICATE_FAILPOINT": asked.failpoint]
      ).start("abort", "--yes", "--drop-target-data")
      try await asked.wait(for: abort)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      if step == "after open" { try await scene.target("INSERT INTO t VALUES (2)") }
      try asked.release()
      #expect(try await abort.waitForEnd(within: .seconds(70)) == 64, "\(abort.output)\(abort.errors)")
      #expect(abort.errors.contains("the cutover was sealed meanwhile"), "\(abort.errors)")
      #expect(abort.errors.contains("replicate start"), "\(abort.errors)")
      _ = try await engine.waitForEnd(within: .seconds(20))
      try await expectClosed(scene)

      let next = try await scene.start()
      #expect(try await next.waitForEnd(within: .seconds(30)) == 0, "\(next.errors)")
      #expect(try await scene.status().phase == .complete)
      try await scene.target("INSERT INTO t VALUES (3)")
      let rows = step == "after open" ? "1 2 3" : "1 3"
      let kept = try await scene.targetValue("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t")
      #expect(kept == rows)
      try await expectClosed(scene)
      try await cutover.end()
    }
  }

  private func expectClosed(_ scene: Scene) async throws {
    let settings = ["default_transaction_read_only": "off"]
    let write = "INSERT INTO t VALUES (100)"
    #expect(
      try await scene.refusal(of: write, on: scene.databases.source, settings: settings) == "25006")
  }

  /// Things of the user's that must stay: a trigger, and a table whose replica identity is put back.
  private func prepare(_ scene: Scene) async throws {
    try await scene.source(
      "CREATE TABLE keyed (id int PRIMARY KEY)", "CREATE SEQUENCE counter",
      "INSERT INTO keyed SELECT generate_series(1, 100)",
      "CREATE TABLE nokey (body text)", "INSERT INTO nokey VALUES ('a'), ('a')",
      """
      CREATE TRIGGER mine BEFORE UPDATE ON keyed FOR EACH ROW
        EXECUTE FUNCTION suppress_redundant_updates_trigger()
      """
    )
  }

  private func expectNoTrace(_ scene: Scene) async throws {
    #expect(try await scene.tracesOnSource() == ["trigger mine on keyed"])
    #expect(try await scene.tracesOnTarget() == [])
  }
}
