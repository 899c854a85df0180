import Clusters
import Testing

@testable import MigrationEngine

/// Cutovers that do not go as planned: the source must take writes again, and the next try must succeed.
@Suite(.serialized, .servers(about: 90), .timeLimit(.minutes(3)))
struct CutoverTests {
  @Test("A writer that does not end lets the cutover time out, is named, and the source goes on")
  func timeout() async throws {
    try await withStream("timeout") { scene, ledger, engine in
      let idle = try await SQLSession(scene.databases.source)
      let pid = try #require(try await idle.value("SELECT pg_backend_pid()"))
      try await idle.execute("BEGIN")
      try await idle.execute("INSERT INTO ledger_account VALUES (50, 0)")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--timeout", "2s")
      #expect(cutover.exitCode == 5, "\(cutover.output)\(cutover.errors)")
      #expect(cutover.errors.contains(pid), "the culprit is named: \(cutover.errors)")
      let before = ledger.report.acknowledged
      try await waitUntil("writes after the aborted cutover") { ledger.report.acknowledged > before + 100 }
      #expect(engine.isRunning)
      try await idle.execute("DELETE FROM ledger_account WHERE writer = 50")
      try await idle.execute("COMMIT")
      await idle.close()
      try await finish(scene, ledger, engine)
    }
  }

  @Test("A cutover that is asked for before the lag was measured waits for the measure")
  func atOnce() async throws {
    try await withStream("atonce") { scene, ledger, engine in
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      let next = try await scene.start()
      try await scene.waitUntil("the next engine", next) { $0.engine.running }
      try await finish(scene, ledger, next)
    }
  }

  @Test("A table that was created a moment before the cutover was asked for joins first")
  func newTable() async throws {
    try await withStream("newtable") { scene, ledger, engine in
      try await scene.source(
        "CREATE TABLE latecomer (id int PRIMARY KEY)", "INSERT INTO latecomer VALUES (1)")
      try await finish(scene, ledger, engine)
      #expect(try await scene.targetValue("SELECT id FROM latecomer") == "1")
    }
  }

  @Test(
    "A table that is created after the fence keeps the source from being sealed, and the stream goes on")
  func tableAfterFence() async throws {
    try await Scene.run("behind") { scene in
      try await scene.source(
        "CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)",
        "INSERT INTO always (v) SELECT generate_series(1, 10)", "CREATE SEQUENCE counter")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.armByFailing()
      let idle = try await SQLSession(scene.databases.source)
      try await idle.execute("BEGIN")
      try await idle.execute("UPDATE always SET v = 100 WHERE id = 1")
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await scene.waitForFence(cutover)
      try await scene.source("CREATE TABLE latecomer (id int)")
      try await idle.execute("COMMIT")
      await idle.close()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 5, "\(cutover.output)")
      #expect(cutover.errors.contains("latecomer"), "\(cutover.errors)")

      // What the cutover had begun to make of the target must not stop the stream.
      try await scene.source("DROP TABLE latecomer", "UPDATE always SET v = 200 WHERE id = 2")
      let again = try await scene.replicate.run("cutover", "--yes")
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0)
      let differences = try await DatabaseComparison().differences(
        source: scene.databases.source, target: scene.databases.target)
      #expect(differences == [])
      let refused = "INSERT INTO always (id, v) VALUES (5000, 1)"
      #expect(try await scene.refusal(of: refused, on: scene.databases.target) == "428C9")
    }
  }

  @Test("An engine that is killed after the fence leaves a source that opens by itself")
  func killedAfterFence() async throws {
    try await withStream("killed") { scene, ledger, engine in
      await ledger.stop()
      try await scene.armByFailing()
      let idle = try await SQLSession(scene.databases.source)
      try await idle.execute("BEGIN")
      try await idle.execute("INSERT INTO ledger_account VALUES (50, 0)")
      let cutover = try await scene.replicate.start("cutover", "--yes", "--timeout", "6s")
      try await scene.waitForFence(cutover)
      engine.kill9()
      #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
      let write = "UPDATE ledger_account SET balance = 0 WHERE writer = 1"
      #expect(try await scene.refusal(of: write, on: scene.databases.source) == "25006")
      try await waitUntil("the fence's expiry", within: .seconds(20)) {
        try await scene.refusal(of: write, on: scene.databases.source) == nil
      }
      try await idle.execute("COMMIT")
      await idle.close()
      try await cutover.end()
      let successor = try await scene.start()
      try await scene.waitUntilReady(successor)
      #expect(try await scene.status().cutover?.result == .aborted)
      try await scene.source("DELETE FROM ledger_account WHERE writer = 50", write)
      let again = try await scene.replicate.run("cutover", "--yes")
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)")
      #expect(try await successor.waitForEnd(within: .seconds(30)) == 0, "\(successor.errors)")
      let differences = try await DatabaseComparison().differences(
        source: scene.databases.source, target: scene.databases.target)
      #expect(differences == [])
    }
  }

  @Test("A switch step that fails is reported, and its output does not hide that the cutover is complete")
  func switchSteps() async throws {
    try await Scene.run("steps") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let engine = try await scene.start(
        "--exec", "echo moved to $REPLICATE_TARGET_DATABASE",
        // The ends' own variables hold passwords.
        "--exec", "echo \"[$REPLICATE_SOURCE$REPLICATE_TARGET]\"", "--exec", "echo no such alias; exit 9")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.output.contains("moved to \(scene.databases.name)"), "\(cutover.output)")
      #expect(cutover.output.contains("[]"), "\(cutover.output)")
      #expect(cutover.output.contains("no such alias"), "\(cutover.output)")
      #expect(cutover.exitCode == 1, "somebody has to look after the step")
      _ = try await engine.waitForEnd(within: .seconds(30))
      #expect(try await scene.status().phase == .complete)
      #expect(
        try await scene.refusal(of: "INSERT INTO t VALUES (1)", on: scene.databases.target) == nil)
    }
  }

  private func withStream(
    _ name: String, _ body: @Sendable (Scene, Ledger, BackgroundProcess) async throws -> Void
  ) async throws {
    try await Scene.run(name) { scene in
      let ledger = Ledger(writers: 4, transactionsPerSecond: 300)
      try await ledger.createTables(on: scene.databases.source)
      try await scene.source("CREATE SEQUENCE counter")
      ledger.start(on: scene.databases.source)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await body(scene, ledger, engine)
    }
  }

  /// A cutover that succeeds, and its proof.
  private func finish(
    _ scene: Scene, _ ledger: Ledger, _ engine: BackgroundProcess
  ) async throws {
    let cutover = try await scene.replicate.run("cutover", "--yes")
    #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
    #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
    try await waitUntil("the refusal of every writer") { ledger.report.refusedWriters == 4 }
    await ledger.stop()
    #expect(ledger.report.failures == [])
    #expect(try await ledger.verify(on: scene.databases.target) == [])
  }
}
