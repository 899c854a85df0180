import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// `replicate finish`: reverse replication ends, both ends are clean, the report stays.
@Suite(.serialized, .servers(about: 70), .timeLimit(.minutes(4)))
struct FinishTests {
  private static let tables = [
    "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE keyless (v int)",
    "CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)",
  ]

  @Test("After a cutover it ends the engine, cleans the target, and leaves the source sealed")
  func afterCutover() async throws {
    try await Running.back("finish", prepare: Self.tables, options: ["--replica-identity", "full"]) { back in
      let scene = back.scene
      let unasked = try await scene.replicate.run("finish")
      #expect(unasked.exitCode == 64 && unasked.errors.contains("--yes"), "\(unasked.errors)")
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(finish.output.contains("slot replicate_back_"), "\(finish.output)")
      #expect(try await back.engine.waitForEnd(within: .seconds(20)) == 0, "\(back.engine.errors)")
      #expect(try await back.tracesOnTarget() == [])
      #expect(
        try await scene.targetValue("SELECT relreplident FROM pg_class WHERE relname = 'keyless'") == "d")
      #expect(try await back.isWritable(.target, "INSERT INTO t VALUES (1)"))
      let settings = ["default_transaction_read_only": "off"]
      let write = "INSERT INTO t VALUES (1)"
      #expect(
        try await scene.refusal(of: write, on: scene.databases.source, settings: settings) == "25006")
      let left = try await scene.tracesOnSource().filter { !$0.hasPrefix("trigger replicate_guard on ") }
      #expect(
        left.sorted() == [
          "function guard", "identity of keyless", "schema replicate",
          "setting default_transaction_read_only=on",
        ])
      let report = try await back.report()
      #expect(report.status.phase == .complete && report.cutovers.count == 1)
      #expect(report.events.last?.what == "finished")
      // Once more changes nothing, and nothing flows back any more.
      #expect(try await scene.replicate.run("finish", "--yes").exitCode == 0)
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 64, "\(rollback.errors)")
      let start = try await scene.start(reverse: true)
      #expect(try await start.waitForEnd(within: .seconds(20)) == 0, "\(start.errors)")
      #expect(try await back.tracesOnTarget() == [])
    }
  }

  @Test(
    "A database that a migration led to is migrated on once its report is saved and dropped, as advised",
    .oneVersion)
  func onward() async throws {
    try await Scene.run("onward") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      try await ClusterPair.shared.withFreshDatabases(named: "onward2") { next in
        let onward = ReplicateProcess(source: scene.databases.target, target: next.source, environment: [:])
        let refused = try await onward.run("check", "--allow-unencrypted-target")
        #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
        #expect(refused.output.contains("own_leftovers"), "\(refused.output)")
        #expect(refused.output.contains("Save it (replicate report --json, with this database as --target)"))
        let report = try await scene.replicate.run("report", "--json")
        #expect(report.exitCode == 0 && report.output.contains("fence_lsn"), "\(report.errors)")
        let finish = try await scene.replicate.run("finish", "--yes")
        #expect(finish.exitCode == 0, "\(finish.errors)")
        try await scene.target("DROP SCHEMA replicate CASCADE")
        let check = try await onward.run("check", "--allow-unencrypted-target")
        #expect(check.exitCode == 0 && !check.output.contains("own_leftovers"), "\(check.output)")
      }
    }
  }

  @Test("After a rollback it cleans the source, and leaves the target sealed")
  func afterRollback() async throws {
    try await Running.back("finish_back", prepare: Self.tables, options: ["--replica-identity", "full"]) {
      back in
      let scene = back.scene
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(back.engine.errors)")
      #expect(try await back.engine.waitForEnd(within: .seconds(20)) == 0, "\(back.engine.errors)")
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(try await scene.tracesOnSource() == [])
      let left = try await back.tracesOnTarget().filter { !$0.hasPrefix("trigger replicate_guard on ") }
      #expect(
        left.sorted() == [
          "function fence", "function guard", "function note", "setting default_transaction_read_only=on",
        ])
      #expect(try await back.isWritable(.source, "INSERT INTO t VALUES (1)"))
      let write = "INSERT INTO t VALUES (1)"
      let settings = ["default_transaction_read_only": "off"]
      #expect(
        try await scene.refusal(of: write, on: scene.databases.target, settings: settings) == "25006")
      #expect(
        try await back.report().cutovers.map(\.request.direction) == [.forward, .back])
      let people = try await scene.replicate.run("report")
      #expect(people.output.contains("── Rollback"), "\(people.output)")
    }
  }

  private func nothingToFinish(_ scene: Scene) async throws {
    let early = try await scene.replicate.run("finish", "--yes")
    #expect(early.exitCode == 64, "\(early.output)\(early.errors)")
    // Nor does a rehearsal leave anything of reverse replication.
    let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
    #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)")
    try await waitUntil("the end of what was made for reverse replication") {
      try await scene.targetValue(
        """
        SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())
          + (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM replicate.way_back)
          + (SELECT count(*) FROM pg_class WHERE relname = 'keyless' AND relreplident <> 'd')
        """) == "0"
    }
    try await waitUntil("ready again") { try await scene.status().ready }
  }

  @Test("The old end is opened where that is asked for; before the cutover there is nothing to finish")
  func openOldEnd() async throws {
    try await Running.back(
      "finish_open", prepare: Self.tables, options: ["--replica-identity", "full"],
      before: nothingToFinish
    ) { back in
      try await RollbackTests.stop(back.engine)
      let finish = try await back.scene.replicate.run("finish", "--yes", "--open-old-end")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(try await back.tracesOnTarget() == [])
      #expect(try await back.scene.tracesOnSource() == [])
      #expect(try await back.isWritable(.source, "INSERT INTO t VALUES (1)"))
    }
  }

  @Test(
    "Servers that die and come again do not end reverse replication; one without its source can be ended",
    .ownServers)
  func deadServers() async throws {
    let pair = try await ClusterPair.shared
    let source = try #require(pair.sourceCluster)
    let target = try #require(pair.targetCluster)
    try await Running.back("finish_dead", prepare: ["CREATE TABLE t (id int PRIMARY KEY)"]) { back in
      let scene = back.scene
      for (number, cluster) in [source, target].enumerated() {
        try await scene.target(
          "INSERT INTO t SELECT generate_series(\(number * 100), \(number * 100 + 50))")
        try await cluster.kill9()
        if number == 0 { try await scene.target("INSERT INTO t VALUES (99)") }
        try await cluster.start()
        try await scene.target("INSERT INTO t VALUES (\(number * 100 + 60))")
        try await back.waitForSource("SELECT count(*), sum(id) FROM t")
      }
      try await RollbackTests.stop(back.engine)
      try await source.kill9()
      let refused = try await scene.replicate.run("finish", "--yes")
      #expect(refused.exitCode == 1, "\(refused.output)\(refused.errors)")
      #expect(refused.errors.contains("--without-source"), "\(refused.errors)")
      let finish = try await scene.replicate.run("finish", "--yes", "--without-source")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(try await back.tracesOnTarget() == [])
      #expect(try await back.isWritable(.target, "INSERT INTO t VALUES (1000)"))
      try await source.start()
      #expect(try await !back.isWritable(.source, "INSERT INTO t VALUES (1000)"))
    }
  }

  @Test("A target that cannot send its writes back is named, and cut over to all the same", .ownServers)
  func noReverse() async throws {
    let cluster = try await Cluster(named: "replica_level", .init(settings: ["wal_level": "replica"]))
    try await cluster.start()
    try await Scene.run("noway") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let replicate = ReplicateProcess(source: scene.databases.source, target: cluster.superuser)
      let check = try await replicate.run("check", "--allow-unencrypted-target")
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      #expect(check.output.contains("no way back") && check.output.contains("wal_level"), "\(check.output)")
      let engine = try await replicate.start("start", "--allow-unencrypted-target", "--cutover", "auto")
      #expect(try await engine.waitForEnd(within: .seconds(60)) == 0, "\(engine.errors)")
      let status = try await replicate.run("status", "--json")
      #expect(status.output.contains("\"phase\":\"complete\""), "\(status.output)")
    }
    try await cluster.destroy()
  }
}
