import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What the source is sent, and what is said of the lag.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(5)))
struct ProgressCases {
  private static let slot = "FROM pg_replication_slots WHERE database = current_database()"

  @Test(
    "Cases 32, 33, 39: an apply longer than wal_sender_timeout keeps its walsender and confirms nothing"
  )
  func longApply() async throws {
    let tables = [
      "CREATE TABLE held (id int PRIMARY KEY, t text)",
      "INSERT INTO held SELECT i, 'x' FROM generate_series(1, 1000) i",
    ]
    try await Running.stream("longapply", tables: tables) { running in
      try await running.scene.with(["wal_sender_timeout": "2s"], on: .source) {
        try await running.settle()
        let scene = running.scene
        let walsender = try await scene.sourceValue("SELECT active_pid \(Self.slot)")
        let blocker = try await SQLSession(scene.databases.target)
        try await blocker.execute("BEGIN \\; LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        try await running.source(["UPDATE held SET t = 'y'"])
        // Up to its commit it may be confirmed to the source that all has come.
        let unapplied = try await scene.sourceValue("SELECT pg_current_wal_lsn()") ?? ""
        try await running.source([
          "INSERT INTO held SELECT i, repeat('z', 500) FROM generate_series(1001, 60000) i"
        ])
        let source = try await SQLSession(scene.databases.source)
        // Three times the timeout.
        let end = ContinuousClock.now + .seconds(6)
        try await waitUntil("the end of the lock's time") {
          let confirmed = try await source.value(
            "SELECT confirmed_flush_lsn < '\(unapplied)' \(Self.slot)")
          #expect(confirmed == "t", "nothing unapplied is confirmed")
          return .now > end
        }
        let status = try await scene.status()
        #expect(status.stream.lagSeconds > 4 && (status.stream.predictedPauseSeconds ?? .infinity) > 4)
        #expect(status.stream.lagBytes > 20_000_000, "\(status.stream.lagBytes) bytes of lag")
        try await blocker.execute("ROLLBACK")
        await blocker.close()
        try await running.settle()
        #expect(try await source.value("SELECT active_pid \(Self.slot)") == walsender, "no reconnect")
        await source.close()
      }
      try await running.expectEqualEnds()
    }
  }

  @Test(
    "Case 48: an autovacuum of the target's tables, however slow, does not keep the engine from its end")
  func autovacuum() async throws {
    let tables = [
      """
      CREATE TABLE vacuumed (id int PRIMARY KEY, v int) WITH (autovacuum_vacuum_threshold = 1,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,
        autovacuum_vacuum_cost_limit = 1)
      """, "INSERT INTO vacuumed SELECT i, 0 FROM generate_series(1, 200000) i",
    ]
    try await Running.stream("autovacuum", tables: tables) { running in
      let scene = running.scene
      try await scene.with(["autovacuum_naptime": "1s"], on: .target) {
        try await running.source(["UPDATE vacuumed SET v = 1 WHERE id % 2 = 0"])
        try await waitUntil("an autovacuum of the table on the target", within: .seconds(90)) {
          try await scene.targetValue(
            "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'vacuumed'::regclass") == "1"
        }
      }
      try await running.expectEqualEnds()
      #expect(running.engine.exitCode == 0, "\(running.engine.errors)")
    }
  }

  @Test(
    "Cases 33, 39: while another database is busy an idle one confirms what it has read, and can cut over")
  func idle() async throws {
    try await Running.stream("idle", tables: ["CREATE TABLE t (id int PRIMARY KEY)"]) { running in
      let scene = running.scene
      try await ClusterPair.shared.withFreshDatabases(named: "busy") { busy in
        let session = try await SQLSession(busy.source)
        try await session.execute(
          "CREATE TABLE noise AS SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
        let lsn = try await session.value("SELECT pg_current_wal_lsn()") ?? ""
        await session.close()
        try await running.engine.waitUntil("the confirmation of what others wrote", within: .seconds(20)) {
          try await scene.sourceValue("SELECT confirmed_flush_lsn >= '\(lsn)' \(Self.slot)") == "t"
        }
      }
      try await running.expectEqualEnds()
    }
  }
}
