import Clusters
import Foundation
import LibPQ
import Testing

@testable import MigrationEngine

/// Large objects: no stream carries them, and they arrive all the same.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct LargeObjectTests {
  /// How many there are beside those that change; a full run takes 100000.
  private static let count =
    ProcessInfo.processInfo.environment["REPLICATE_LARGE_OBJECTS"].flatMap(Int.init) ?? 2000

  @Test("What was written, truncated, removed, made, given away or described since the copy is as it is")
  func changes() async throws {
    try await SharedRole.with("lochanges") { role in
      try await Journey.run("lochanges") { journey in
        try await Self.make(journey)
        let engine = try await journey.start()
        try await journey.waitUntilReady(engine)
        #expect(try await journey.largeObjects(.target) == journey.largeObjects(.source))
        try await Self.change(journey, role)
        let cutover = try await journey.replicate.run("cutover", "--yes", "--timeout", "120s")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        let expected = try await journey.largeObjects(.source)
        #expect(expected.count == Self.count + 6)
        #expect(try await journey.largeObjects(.target) == expected)
      }
    }
  }

  @Test("One of 100 MB arrives, and the engine's memory does not grow with it")
  func large() async throws {
    try await Journey.run("lolarge") { journey in
      try await journey.source(
        "SELECT lo_create(7)",
        """
        SELECT lo_put(7, n * 1048576::bigint, decode(repeat(md5(n::text), 32768), 'hex') ||
          decode(repeat(md5((n + 100)::text), 32768), 'hex')) FROM generate_series(0, 99) n
        """)
      let engine = try await journey.start()
      try await journey.waitUntilReady(engine)
      #expect(try await journey.largeObjects(.target) == journey.largeObjects(.source))
      let peak = try #require(engine.peakMemoryBytes)
      #expect(peak < 100 << 20, "the engine took \(peak) bytes at its peak")
    }
  }

  @Test("An abort that clears the target takes them along")
  func abort() async throws {
    try await Journey.run("loabort") { journey in
      try await journey.source("SELECT lo_from_bytea(n, 'x') FROM generate_series(1, 500) n")
      let engine = try await journey.start()
      try await journey.waitUntilReady(engine)
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
      let abort = try await journey.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.errors)")
      #expect(try await journey.targetValue("SELECT count(*) FROM pg_largeobject_metadata") == "0")
      #expect(try await journey.sourceValue("SELECT count(*) FROM pg_largeobject_metadata") == "500")
    }
  }

  private static func make(_ journey: Journey) async throws {
    try await journey.source(
      "CREATE TABLE t (id int PRIMARY KEY)",
      """
      SELECT lo_from_bytea(n, decode(repeat(md5(n::text), 20), 'hex'))
      FROM generate_series(1000, 999 + \(count)) n
      """,
      "SELECT lo_from_bytea(n, decode(repeat(md5(n::text), 5000), 'hex')) FROM generate_series(1, 9) n",
      "COMMENT ON LARGE OBJECT 8 IS 'before'")
  }

  /// Also by a subtransaction, which no snapshot tells.
  private static func change(_ journey: Journey, _ role: String) async throws {
    try await journey.source(
      "BEGIN \\; SAVEPOINT a \\; SELECT lo_put(1, 70000, 'written') \\; RELEASE a \\; COMMIT",
      "DO $$ DECLARE fd int := lo_open(2, 131072); BEGIN PERFORM lo_truncate(fd, 4096); END $$",
      "SELECT lo_unlink(oid) FROM (VALUES (3), (4), (9)) AS gone (oid)",
      "SELECT lo_from_bytea(4, 'made again')",
      "ALTER LARGE OBJECT 5 OWNER TO \(role)", "GRANT SELECT ON LARGE OBJECT 6 TO PUBLIC",
      "COMMENT ON LARGE OBJECT 8 IS 'after'",
      "DO $$ DECLARE fd int := lo_open(7, 131072); BEGIN PERFORM lo_truncate(fd, 200000); END $$",
      "SELECT lo_unlink(1000)")
  }
}
