import Clusters
import Foundation
import LibPQ
import Testing

/// Through PgBouncer nobody notices the restart.
@Suite(
  .serialized, .servers(about: 45), .timeLimit(.minutes(5)), .ownServers,
  .enabled(if: PgBouncer.isInstalled, "needs pgbouncer"))
struct PooledPrepareTests {
  /// Writers and a reader come through a pooler all the while.
  private struct Clients: Sendable {
    let scene: Unprepared
    let pooler: PgBouncer
    let ledger = Ledger(writers: 4, transactionsPerSecond: 300)
    let reader = Reader(query: "SELECT sum(balance) FROM ledger_account")
    let plan: String

    func waitForWrites() async throws {
      let before = ledger.report.acknowledged
      try await waitUntil("more writes through the pooler") {
        ledger.report.acknowledged >= before + 50 || !ledger.report.failures.isEmpty
      }
    }

    func stop() async {
      await ledger.stop()
      await reader.stop()
    }

    func expectUndisturbed() async throws {
      try await waitForWrites()
      await stop()
      let report = ledger.report
      #expect(report.failures == [] && report.unknown == 0)
      #expect(report.sessions == 4, "writers connected once each")
      #expect(reader.report.failures == [] && reader.report.reads > 0)
      #expect(try await ledger.verify(on: scene.cluster.superuser) == [])
      #expect(try await !pooler.isPaused())
    }
  }

  private func run(_ body: @Sendable (Clients) async throws -> Void) async throws {
    try await Unprepared.run { scene in
      let pooler = try await PgBouncer.start(before: scene.cluster.superuser)
      let clients = Clients(scene: scene, pooler: pooler, plan: try await scene.plan(pooler))
      try await clients.ledger.createTables(on: scene.cluster.superuser)
      clients.ledger.start(on: pooler.connection)
      clients.reader.start(on: pooler.connection)
      try await clients.waitForWrites()
      do {
        try await body(clients)
      } catch {
        await clients.stop()
        try await pooler.stop()
        throw error
      }
      await clients.stop()
      try await pooler.stop()
    }
  }

  @Test("Clients wait in their pooler during the restart: none sees an error or connects again")
  func undisturbed() async throws {
    try await run { clients in
      let done = try await clients.scene.prepare([
        "--yes", "--config", clients.plan, "--restart-command", clients.scene.restart,
      ])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(done.output.contains("clients of PgBouncer "), "\(done.output)")
      #expect(done.output.contains("(query_wait_timeout)"), "\(done.output)")
      let waited = try #require(done.output.firstMatch(of: /waited for at most ([0-9.]+) (ms|s)/))
      let number = try #require(Double(waited.output.1))
      let seconds = waited.output.2 == "s" ? number : number / 1000
      try await clients.expectUndisturbed()
      #expect(clients.ledger.report.longestWait < .seconds(seconds + 1))
      #expect(try await clients.scene.blockers() == [])
      print("prepared behind a pooler: clients \(waited.output.0)")
    }
  }

  @Test("A restart that fails lets clients go on, on a server that is as it was")
  func failingRestart() async throws {
    try await run { clients in
      let failed = try await clients.scene.prepare([
        "--yes", "--config", clients.plan, "--restart-command", "exit 7",
      ])
      #expect(failed.exitCode == 1, "\(failed.output)\(failed.errors)")
      #expect(failed.errors.contains("let its clients go on"), "\(failed.errors)")
      #expect(try await clients.scene.stored() == "")
      try await clients.expectUndisturbed()
    }
  }

  @Test("Transactions that do not end keep it from beginning: clients go on, nothing is changed")
  func busy() async throws {
    try await run { clients in
      let idle = try await SQLSession(clients.pooler.connection)
      try await idle.execute("BEGIN \\; SELECT 1")
      let started = try await clients.scene.started()
      let failed = try await clients.scene.prepare([
        "--yes", "--config", clients.plan, "--max-pause", "1s", "--restart-command", clients.scene.restart,
      ])
      #expect(failed.exitCode == 1, "\(failed.output)\(failed.errors)")
      #expect(failed.errors.contains("transactions of its clients did not end: pid "), "\(failed.errors)")
      #expect(failed.errors.contains("its server was not restarted"), "\(failed.errors)")
      #expect(try await clients.scene.stored() == "")
      #expect(try await clients.scene.started() == started)
      try await idle.execute("COMMIT")
      await idle.close()
      try await clients.expectUndisturbed()
    }
  }

  @Test("Killed while clients wait it leaves somebody who lets them go, and asked to stop it does so itself")
  func killed() async throws {
    try await run { clients in
      for signal in [SIGKILL, SIGTERM] {
        let point = try await HoldingPoint("before restart")
        let started = try await clients.scene.started()
        let prepare = try await clients.scene.replicate.with(["REPLICATE_FAILPOINT": point.failpoint]).start(
          "prepare", "--yes", "--config", clients.plan, "--restart-command", clients.scene.restart)
        try await point.wait(for: prepare)
        #expect(try await clients.pooler.isPaused())
        if signal == SIGKILL {
          prepare.kill9()
          #expect(try await prepare.waitForEnd(within: .seconds(10)) == 128 + SIGKILL)
        } else {
          prepare.terminate()
          #expect(try await prepare.waitForEnd(within: .seconds(20)) == 1, "\(prepare.errors)")
          #expect(prepare.errors.contains("interrupted"), "\(prepare.errors)")
        }
        try await waitUntil("the clients", within: .seconds(10)) { try await !clients.pooler.isPaused() }
        try await clients.waitForWrites()
        #expect(try await clients.scene.stored() == "")
        #expect(try await clients.scene.started() == started)
      }
      try await clients.expectUndisturbed()
    }
  }

  @Test("A pooler that is paused already or in front of our own session blocks")
  func blocked() async throws {
    try await run { clients in
      let arguments = ["--yes", "--config", clients.plan, "--restart-command", clients.scene.restart]
      let through = ReplicateProcess(
        source: clients.pooler.connection, target: clients.scene.databases.target)
      let pooled = try await clients.scene.prepare(arguments, by: through)
      #expect(pooled.exitCode == 3, "\(pooled.output)\(pooled.errors)")
      #expect(pooled.errors.contains("shares server sessions between clients"), "\(pooled.errors)")
      let more = "second = host=127.0.0.1 port=\(clients.scene.cluster.port) dbname=template1\n[pgbouncer]"
      let file = try clients.pooler.contents().replacing("[pgbouncer]", with: more)
      try Data(file.utf8).write(to: URL(filePath: clients.pooler.configuration))
      try await clients.pooler.console("RELOAD")
      let neighbour = try await clients.scene.prepare(Array(arguments.dropFirst()))
      #expect(neighbour.exitCode == 64, "\(neighbour.output)\(neighbour.errors)")
      let warning = "leads clients of \"second\" to the same server, and no step makes them wait"
      #expect(neighbour.output.contains(warning), "\(neighbour.output)")
      try await clients.pooler.console("PAUSE postgres")
      let paused = try await clients.scene.prepare(arguments)
      #expect(paused.exitCode == 3, "\(paused.output)\(paused.errors)")
      #expect(paused.output.contains("postgres is paused"), "\(paused.output)")
      try await clients.pooler.console("RESUME postgres")
      #expect(try await clients.scene.stored() == "")
      try await clients.expectUndisturbed()
    }
  }
}
