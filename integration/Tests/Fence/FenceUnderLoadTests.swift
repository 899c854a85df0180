import Clusters
import Foundation
import LibPQ
import Testing

@testable import MigrationEngine

/// The proof that the cutover rests on: nothing is committed between a marker and the end of its fence.
@Suite(.serialized, .servers, .timeLimit(.minutes(5)))
struct FenceUnderLoadTests {
  private static let rounds =
    ProcessInfo.processInfo.environment["REPLICATE_FENCE_ROUNDS"].flatMap { Int($0) } ?? 5

  @Test("Under load no change is committed between a marker and the un-fencing, and nobody deadlocks")
  func holds() async throws {
    try await Scene.fenced("load") { scene in
      try await Load.createTables(scene)
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      try await WAL.createSlot(scene)
      let load = Load(sessions: 8)
      load.start(on: scene.databases.source)
      for round in 1...Self.rounds {
        try await load.waitForCommits(more: 200)
        _ = try await guardian.fence(expiringAfter: .seconds(60))
        _ = try await scene.writers.awaitHolding(until: .now + .seconds(30))
        try await WAL.mark("fenced \(round)", scene.connection(.source))
        let refused = load.refused
        try await waitUntil("writers at the fence", within: .seconds(10)) { load.refused > refused + 20 }
        try await WAL.mark("open \(round)", scene.connection(.source))
        try await guardian.unfence()
      }
      await load.stop()
      let found = try await WAL.read(scene)
      #expect(found.changesAfterMarker == 0)
      #expect(found.markers == 2 * Self.rounds)
      #expect(found.changes >= 200 * Self.rounds)
      #expect(load.failures == [])
    }
  }

  @Test(
    "Without waiting for the writers under way a change does come after the marker: the check can fail")
  func control() async throws {
    try await Scene.fenced("control") { scene in
      try await Load.createTables(scene)
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      try await WAL.createSlot(scene)
      let writer = try await scene.session("BEGIN", "UPDATE load_1 SET v = v + 1 WHERE id = 1")
      _ = try await guardian.fence(expiringAfter: .seconds(60))
      try await WAL.mark("fenced 1", scene.connection(.source))
      try await writer.execute("COMMIT")
      try await WAL.mark("open 1", scene.connection(.source))
      #expect(try await WAL.read(scene).changesAfterMarker == 1)
      await writer.close()
    }
  }
}

/// What a decoder sees of it all.
private enum WAL {
  static func createSlot(_ scene: Scene) async throws {
    try await scene.source(
      "SELECT pg_create_logical_replication_slot('fence_' || current_database(), 'test_decoding')")
  }

  static func mark(_ what: String, _ connection: LibPQ.Connection) async throws {
    try await connection.query(
      "SELECT pg_catalog.pg_logical_emit_message(true, 'replicate.fence', $1)", [what],
      doing: "marking the WAL")
  }

  static func read(_ scene: Scene) async throws -> (markers: Int, changes: Int, changesAfterMarker: Int) {
    let session = try await SQLSession(scene.databases.source)
    let lines = try await session.rows(
      """
      SELECT data FROM pg_logical_slot_get_changes('fence_' || current_database(), NULL, NULL)
      WHERE data ~ '^(message|table public.load_)'
      """
    ).compactMap { $0.first ?? nil }
    try await session.execute("SELECT pg_drop_replication_slot('fence_' || current_database())")
    await session.close()
    var found = (markers: 0, changes: 0, changesAfterMarker: 0)
    var isFenced = false
    for line in lines {
      if line.hasPrefix("message") {
        found.markers += 1
        isFenced = line.contains("content:fenced")
      } else {
        found.changes += 1
        if isFenced { found.changesAfterMarker += 1 }
      }
    }
    return found
  }
}
