import Clusters
import Testing

@testable import MigrationEngine

/// A source that keeps only so much WAL for a slot.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)), .ownServers)
struct SlotLossTests {
  @Test(
    "Case 37: a slot near its loss is warned of, and one that is lost stops the copy with the way out"
  )
  func loss() async throws {
    try await Scene.run("slotloss") { scene in
      try await scene.source(
        "CREATE TABLE slow (id int PRIMARY KEY, v text)",
        "INSERT INTO slow SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'", "SELECT pg_reload_conf()")
      let engine = try await scene.start("--jobs", "1", "--max-rate", "200kB")
      try await scene.waitUntil("the copy", engine) { $0.phase == .copy && $0.copy.bytesDone > 0 }
      try await Self.write(scene, megabytes: 60)
      try await engine.waitUntil("the warning", within: .seconds(20)) {
        engine.errors.contains("the slot retains")
      }
      try await Self.write(scene, megabytes: 80)
      try await scene.source("CHECKPOINT")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 1, "\(engine.errors)")
      #expect(engine.errors.contains("max_slot_wal_keep_size"), "\(engine.errors)")
      #expect(try await scene.status().phase == .failed)
      try await scene.source("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
      let abort = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.errors)")
      #expect(try await scene.tracesOnSource() == [])
    }
  }

  private static func write(_ scene: Scene, megabytes: Int) async throws {
    try await scene.source(
      """
      SELECT count(pg_logical_emit_message(false, 'noise', repeat('x', 1048576)))
      FROM generate_series(1, \(megabytes))
      """, "SELECT pg_switch_wal()")
  }
}
