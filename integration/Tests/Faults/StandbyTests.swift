import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Synchronous replication of either server: the engine is nobody's standby, and a commit of its own that
/// waits for one is reported.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)), .ownServers)
struct StandbyTests {
  @Test(
    "No commit of the source's users waits for the engine, where any name would be a synchronous standby")
  func nobodysStandby() async throws {
    let directory = try await freshDirectory()
    try await Running.stream("standbyany", tables: ["CREATE TABLE t (id int PRIMARY KEY)"]) { running in
      let scene = running.scene
      let receiver = try await BackgroundProcess(
        [
          PostgresPrograms.path("pg_receivewal"), "--synchronous", "-D", directory, "-d",
          ClusterPair.shared.source.text,
        ])
      try await receiver.waitUntil("a standby that receives", within: .seconds(20)) {
        try await scene.sourceValue(
          "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal'") == "1"
      }
      try await scene.with(["synchronous_standby_names": "*"], on: .source) {
        try await receiver.waitUntil("the standby that commits wait for", within: .seconds(20)) {
          try await scene.sourceValue(
            "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'pg_receivewal'") == "sync"
        }
        let session = try await SQLSession(scene.databases.source)
        let began = ContinuousClock.now
        for id in 1...20 {
          try await session.execute("INSERT INTO t VALUES (\(id))")
          let ours = try await session.value(
            "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'replicate stream'")
          #expect(ours == "async")
        }
        // One that waited for what the engine confirms once a second would take half of one.
        #expect(ContinuousClock.now - began < .seconds(5))
        await session.close()
        try await running.settle()
      }
      receiver.terminate()
      _ = try await receiver.waitForEnd(within: .seconds(20))
      let slot = "FROM pg_replication_slots WHERE database = current_database()"
      let lsn = try await scene.sourceValue("SELECT pg_current_wal_lsn()") ?? ""
      try await running.engine.waitUntil("the confirmation of what has come", within: .seconds(20)) {
        try await scene.sourceValue("SELECT confirmed_flush_lsn >= '\(lsn)' \(slot)") == "t"
      }
      try await running.expectEqualEnds()
    }
  }

  @Test("A target whose commits wait for a standby is refused by check, and reported by the status")
  func targetWaits() async throws {
    try await Running.stream("standbytarget", tables: ["CREATE TABLE t (id int PRIMARY KEY)"]) { running in
      let scene = running.scene
      try await scene.with(["synchronous_standby_names": "nobody"], on: .target) {
        try await running.source(["INSERT INTO t VALUES (1)"])
        let words = "for a synchronous standby (synchronous_standby_names = 'nobody') of the target"
        try await scene.waitUntil("a status that names the standby", running.engine) {
          $0.engine.running && !$0.ready && $0.stream.waitsFor?.contains(words) == true
        }
        let found = try await Preflight.check(
          source: scene.databases.source, target: scene.databases.target, isResuming: true
        ).findings("synchronous_standby")
        #expect(found.map(\.object) == ["target"])
        let waits = try #require(try await scene.status().stream.waitsFor)
        let advice = try #require(waits.range(of: "To do without it, on the target: "), "\(waits)")
        let statements = waits[advice.upperBound...].split(separator: "; ").prefix(2)
        try await scene.run(statements.map { String($0.prefix { $0 != ";" }) }, on: .target)
        try await running.settle()
      }
      try await running.expectEqualEnds()
    }
  }
}
