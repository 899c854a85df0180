import Clusters
import Testing

@testable import MigrationEngine

/// One engine holds a migration, and one migration a source.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct SecondEngineTests {
  @Test("A second engine exits with 6 and names the first, which goes on")
  func second() async throws {
    try await withStream("second") { scene, first in
      let second = try await scene.replicate.run(["start"] + ClusterPair.shared.encryptionArguments)
      #expect(second.exitCode == 6, "\(second.output)\(second.errors)")
      #expect(second.errors.contains("process \(first.processID) on "), "\(second.errors)")
      #expect(second.errors.contains("replicate status"), "\(second.errors)")

      let status = try await scene.status()
      #expect(status.phase == .streaming && status.engine.running && status.failure == nil)
      #expect(status.engine.pid == Int(first.processID))
      try await expectStream(scene, first)
      first.terminate()
      #expect(try await first.waitForEnd(within: .seconds(20)) == 0, "\(first.errors)")
      let successor = try await scene.start()
      try await scene.waitUntilReady(successor)
    }
  }

  @Test("Of two engines that begin at once one exits with 6, and the other migrates")
  func race() async throws {
    try await Scene.run("race") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let engines = [try await scene.start(), try await scene.start()]
      try await waitUntil("the end of one engine") { engines.contains { !$0.isRunning } }
      let loser = try #require(engines.first { !$0.isRunning })
      let winner = try #require(engines.first { $0.isRunning })
      #expect(loser.exitCode == 6, "\(loser.errors)")
      try await scene.waitUntilReady(winner)
      #expect(try await scene.status().engine.pid == Int(winner.processID))
    }
  }

  @Test("A second target for a source that is being migrated is refused, and the first migration goes on")
  func secondTarget() async throws {
    try await withStream("two") { scene, first in
      let pair = try await ClusterPair.shared
      let other = try await pair.freshDatabases(named: "othertarget")
      let run = try await ReplicateProcess(source: scene.databases.source, target: other.target).run(
        ["start"] + pair.encryptionArguments)
      #expect(run.exitCode == 3, "\(run.output)\(run.errors)")
      #expect(run.errors.contains("replication slot \"replicate_"), "\(run.errors)")
      #expect(try await Scene(databases: other, replicate: scene.replicate).tracesOnTarget() == [])
      try await expectStream(scene, first)
      try await other.drop()
    }
  }

  @Test("Another source for a target that holds a migration is refused, and names the right one")
  func secondSource() async throws {
    try await withStream("wrong") { scene, first in
      first.terminate()
      #expect(try await first.waitForEnd(within: .seconds(20)) == 0, "\(first.errors)")
      let pair = try await ClusterPair.shared
      let other = try await pair.freshDatabases(named: "othersource")
      let replicate = ReplicateProcess(source: other.source, target: scene.databases.target)
      for command in [["start"] + pair.encryptionArguments, ["abort", "--yes", "--drop-target-data"]] {
        let run = try await replicate.run(command)
        #expect(run.exitCode == 64, "\(command): \(run.output)\(run.errors)")
        #expect(run.errors.contains(scene.databases.name), "\(command): \(run.errors)")
      }
      try await other.drop()
      let successor = try await scene.start()
      try await scene.waitUntilReady(successor)
      try await expectStream(scene, successor)
    }
  }

  @Test("A cutover that is asked for while no engine runs is refused, and surprises nobody later")
  func cutoverWithoutEngine() async throws {
    try await withStream("noengine") { scene, first in
      first.terminate()
      #expect(try await first.waitForEnd(within: .seconds(20)) == 0, "\(first.errors)")
      let refusal = Refusal(
        databases: (source: scene.databases.source, target: scene.databases.target),
        replicate: scene.replicate)
      try await refusal.expect(
        [["cutover", "--yes"]], exitCode: 64, words: ["no engine is running", "replicate start"])
      let successor = try await scene.start()
      try await scene.waitUntilReady(successor)
      try await expectStream(scene, successor)
      #expect(try await scene.status().cutover == nil)
    }
  }

  private func withStream(
    _ name: String, _ body: @Sendable (Scene, BackgroundProcess) async throws -> Void
  ) async throws {
    try await Scene.run(name) { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await body(scene, engine)
    }
  }

  /// What is written now arrives.
  private func expectStream(_ scene: Scene, _ engine: BackgroundProcess) async throws {
    try await scene.source("INSERT INTO t SELECT max(id) + 1 FROM t")
    let written = try await scene.sourceValue("SELECT max(id) FROM t")
    try await engine.waitUntil("the row on the target", within: .seconds(20)) {
      try await scene.targetValue("SELECT max(id) FROM t") == written
    }
  }
}
