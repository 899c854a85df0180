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

  @Test(
    "A list of servers that may lead to a standby is refused; target_session_attrs makes it one server"
  )
  func listed() async throws {
    let standby = try await Cluster(named: "listed")
    do {
      try await standby.start()
      try await Scene.run("listed") { scene in
        let role = "CREATE ROLE listed_\(getpid()) LOGIN SUPERUSER PASSWORD 'l'"
        try await SQLSession.run(
          [role, "CREATE DATABASE \(scene.databases.name)"], on: standby.superuser)
        try await standby.restartAsStandby()
        try await scene.source(role, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
        try await Self.expectOne(scene, standby.port)
      }
      try await SQLSession.run(["DROP ROLE listed_\(getpid())"], on: ClusterPair.shared.source)
    } catch {
      try? await standby.destroy()
      throw error
    }
    try await standby.destroy()
  }

  /// The two statements that the status names.
  private static func advice(after words: String, _ scene: Scene) async throws -> [Substring] {
    while true {
      let waits = try await scene.status().stream.waitsFor ?? ""
      if let advice = waits.range(of: words) {
        return Array(waits[advice.upperBound...].split(separator: "; ").prefix(2))
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  private static func expectOne(_ scene: Scene, _ standby: Int) async throws {
    let port = try #require(scene.databases.source.text.firstMatch(of: /port='?([0-9]+)/)?.output.1)
    let list = [
      "host": "127.0.0.1,127.0.0.1", "port": "\(standby),\(port)", "user": "listed_\(getpid())",
      "password": "l",
    ]
    let refused = try await scene.connecting(source: list).replicate.run("check")
    #expect(refused.exitCode == 3 && refused.output.contains("several_servers: source"), "\(refused.output)")
    let alone = try await scene.connecting(
      source: list.merging(["host": "127.0.0.1", "port": "\(standby)"]) { $1 }
    )
    .replicate.run("check")
    #expect(
      alone.exitCode == 3 && alone.output.contains("recovery: source"), "\(alone.output)\(alone.errors)")
    let unable = try await scene.connecting(
      source: list.merging(["target_session_attrs": "read-write"]) { $1 }
    )
    .replicate.run("check")
    #expect(unable.exitCode == 3 && unable.output.contains("several_servers: source"), "\(unable.output)")
    let named = scene.connecting(source: list.merging(["target_session_attrs": "primary"]) { $1 })
    let engine = try await named.start(reverse: true)
    try await named.waitUntilReady(engine)
    let cutover = try await named.replicate.run("cutover", "--yes")
    #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
    try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
    let rollback = try await named.replicate.run("rollback", "--yes")
    #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
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
        // In between the engine has given up a commit, and waits to try again.
        let statements = try await Self.advice(after: "To do without it, on the target: ", scene)
        try await scene.run(statements.map { String($0.prefix { $0 != ";" }) }, on: .target)
        try await running.settle()
      }
      try await running.expectEqualEnds()
    }
  }
}
