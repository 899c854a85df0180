import Clusters
import Foundation
import Testing

/// A scene whose application comes through PgBouncer, with writers and readers all the while. It is a type of
/// its own for what must end in order: the clients, then the pooler, then the databases, then its role.
struct Pooled: Sendable {
  let scene: Scene
  /// The source, as a pooler logs in to it.
  let login: ConnectionString
  let pooler: PgBouncer
  let ledger: Ledger
  let reader: Reader
  /// The plan's file, which holds one step for the pooler and what the test adds.
  let plan: String

  /// - Parameter first: steps before the pooler's, as YAML.
  static func run(
    _ name: String, before first: String = "", _ body: @Sendable (Pooled) async throws -> Void
  ) async throws {
    let pair = try await ClusterPair.shared
    let role = "pooled_\(name)_\(getpid())"
    // PgBouncer logs in to both ends with what its file says.
    for server in [pair.source, pair.target] {
      try await SQLSession.run(["CREATE ROLE \(role) LOGIN SUPERUSER PASSWORD 'p00led'"], on: server)
    }
    try await Scene.run(name) { scene in
      let login = scene.databases.source.with(["user": role, "password": "p00led"])
      let pooler = try await PgBouncer.start(before: login)
      let ledger = Ledger(writers: 4, transactionsPerSecond: 400)
      try await ledger.createTables(on: scene.databases.source)
      try await scene.source("CREATE SEQUENCE counter")
      let plan = try await freshDirectory() + "/replicate.yaml"
      try Data(step(pooler, scene, before: first).utf8).write(to: URL(filePath: plan))
      let pooled = Pooled(
        scene: scene, login: login, pooler: pooler, ledger: ledger,
        reader: Reader(query: "SELECT sum(balance) FROM ledger_account"), plan: plan)
      do {
        try await body(pooled)
      } catch {
        await pooled.stopClients()
        try await pooler.stop()
        throw error
      }
      await pooled.stopClients()
      try await pooler.stop()
    }
    for server in [pair.source, pair.target] {
      try await SQLSession.run(["DROP ROLE \(role)"], on: server)
    }
  }

  static func step(_ pooler: PgBouncer, _ scene: Scene, before first: String = "") -> String {
    """
    switch:
    \(first)\
      - step: pgbouncer
        timeout: 20s
        poolers:
          - admin: "\(pooler.admin.text)"
            database: \(scene.databases.name)
            config: \(pooler.configuration)

    """
  }

  /// More lines for the plan's file.
  func addToPlan(_ text: String) throws {
    let before = try String(contentsOfFile: plan, encoding: .utf8)
    try Data((before + text).utf8).write(to: URL(filePath: plan))
  }

  func startClients() {
    ledger.start(on: pooler.connection)
    reader.start(on: pooler.connection)
  }

  func stopClients() async {
    await ledger.stop()
    await reader.stop()
  }

  func start(reverse: Bool = false, meeting point: HoldingPoint? = nil) async throws -> BackgroundProcess {
    try await scene.start("--config", plan, reverse: reverse, meeting: point?.failpoint)
  }

  func waitForWrites(_ count: Int = 100) async throws {
    let before = ledger.report.acknowledged
    try await waitUntil("\(count) more writes through the pooler") {
      ledger.report.acknowledged >= before + count || !ledger.report.failures.isEmpty
    }
  }

  /// Neither a failed transaction nor a second connection, of writers and of readers.
  func expectUndisturbedClients() {
    let report = ledger.report
    #expect(report.failures == [])
    #expect(report.refusedWriters == 0)
    #expect(report.unknown == 0)
    #expect(report.sessions == 4, "writers connected once each")
    #expect(reader.report.failures == [], "a lost connection is a failure to the reader")
    #expect(reader.report.reads > 0)
  }
}
