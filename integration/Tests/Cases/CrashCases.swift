import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Servers that crash, change their timeline, or cannot be reached for long.
@Suite(.serialized, .servers, .timeLimit(.minutes(10)), .ownServers)
struct CrashCases {
  @Test(
    "Case 34: what a crashed target had not flushed is sent again, and nothing of it is lost or doubled")
  func unflushedCommits() async throws {
    let target = try #require(try await ClusterPair.shared.targetCluster)
    try await Running.stream("unflushed", tables: ["CREATE TABLE t (id int PRIMARY KEY, v int)"]) { running in
      let scene = running.scene
      try await scene.with(Self.slowWALWriter, on: .target) {
        var lost = 0
        // A flush of the engine's may come in between; then it is tried again.
        for round in 1...10 where lost == 0 {
          try await running.source([
            "INSERT INTO t SELECT \(round) * 1000 + i, 0 FROM generate_series(1, 500) i"
          ])
          let seen = try await SQLSession(scene.databases.target)
          try await waitUntil("the rows on the target", every: .milliseconds(2)) {
            try await seen.value("SELECT count(*) FROM t") == "\(round * 500)"
          }
          try await running.engine.whileFrozen {
            try await target.kill9()
            await seen.close()
            try await target.start()
            let kept = try await scene.targetValue("SELECT count(*) FROM t").flatMap { Int($0) } ?? 0
            lost += round * 500 - kept
          }
          try await running.settle()
        }
        #expect(lost > 0, "the crash lost commits that had been seen")
        try await running.source(["UPDATE t SET v = v + 1"])
      }
      try await running.expectEqualEnds()
    }
  }

  /// Commits that do not wait for their flush stay in memory for as long as may be.
  private static let slowWALWriter = [
    "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "bgwriter_lru_maxpages": "0",
  ]

  @Test("Case 38: a source that is promoted to a new timeline goes on being read where it was")
  func timeline() async throws {
    let source = try #require(try await ClusterPair.shared.sourceCluster)
    let tables = [
      "CREATE TABLE t (id int PRIMARY KEY, v int)",
      "INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i",
    ]
    try await Running.stream("timeline", tables: tables) { running in
      try await running.source(["UPDATE t SET v = 1 WHERE id <= 50"])
      let before = try await running.scene.sourceValue("SELECT timeline_id FROM pg_control_checkpoint()")
      try await source.restartOnNewTimeline()
      try await running.source(["CHECKPOINT", "UPDATE t SET v = 2 WHERE id > 30"])
      #expect(
        try await running.scene.sourceValue("SELECT timeline_id FROM pg_control_checkpoint()") != before)
      try await running.settle()
      try await running.expectEqualEnds()
    }
  }
}
