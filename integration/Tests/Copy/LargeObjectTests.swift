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
      try await Scene.run("lochanges") { scene in
        try await Self.make(scene)
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        #expect(try await scene.largeObjects(.target) == scene.largeObjects(.source))
        try await Self.change(scene, role)
        let cutover = try await scene.replicate.run("cutover", "--yes", "--timeout", "120s")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        let expected = try await scene.largeObjects(.source)
        #expect(expected.count == Self.count + 6)
        #expect(try await scene.largeObjects(.target) == expected)
      }
    }
  }

  @Test("One of 100 MB arrives, and the engine's memory does not grow with it")
  func large() async throws {
    try await Scene.run("lolarge") { scene in
      try await scene.source(
        "SELECT lo_create(7)",
        """
        SELECT lo_put(7, n * 1048576::bigint, decode(repeat(md5(n::text), 32768), 'hex') ||
          decode(repeat(md5((n + 100)::text), 32768), 'hex')) FROM generate_series(0, 99) n
        """)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      #expect(try await scene.largeObjects(.target) == scene.largeObjects(.source))
      let peak = try #require(engine.peakMemoryBytes)
      #expect(peak < 100 << 20, "the engine took \(peak) bytes at its peak")
    }
  }

  @Test("An abort that clears the target takes them along")
  func abort() async throws {
    try await Scene.run("loabort") { scene in
      try await scene.source("SELECT lo_from_bytea(n, 'x') FROM generate_series(1, 500) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
      let abort = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.errors)")
      #expect(try await scene.targetValue("SELECT count(*) FROM pg_largeobject_metadata") == "0")
      #expect(try await scene.sourceValue("SELECT count(*) FROM pg_largeobject_metadata") == "500")
    }
  }

  private static func make(_ scene: Scene) async throws {
    try await scene.source(
      "CREATE TABLE t (id int PRIMARY KEY)",
      """
      SELECT lo_from_bytea(n, decode(repeat(md5(n::text), 20), 'hex'))
      FROM generate_series(1000, 999 + \(count)) n
      """,
      "SELECT lo_from_bytea(n, decode(repeat(md5(n::text), 5000), 'hex')) FROM generate_series(1, 9) n",
      "COMMENT ON LARGE OBJECT 8 IS 'before'")
  }

  /// Also by a subtransaction, which no snapshot shows.
  private static func change(_ scene: Scene, _ role: String) async throws {
    try await scene.source(
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
