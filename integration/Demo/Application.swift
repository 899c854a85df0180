import Clusters
import Foundation
import MigrationEngine

/// What an application with pooled sessions sees of a cutover, for each way of leading it over.
struct Application {
  /// How it gets from the source to the target.
  enum Way: String, CaseIterable {
    case restart = "its address moves, its service is restarted 3 s later"
    case terminateSessions = "its address moves, terminate-sessions"
    case pgBouncer = "PgBouncer"
  }

  let pair: ClusterPair

  private static let role = "shop"

  func show() async throws {
    say(
      "From the application's side: a pool of four sessions that write all the while, led over in three ways")
    for server in [pair.source, pair.target] {
      try await SQLSession.run(["CREATE ROLE \(Self.role) LOGIN PASSWORD 'shop'"], on: server)
    }
    let reports = try await Self.measured(pair)
    let width = Way.allCases.map(\.rawValue.count).max() ?? 0
    func line(_ cells: [String]) {
      print(
        cells[0].padding(toLength: width + 2, withPad: " ", startingAt: 0)
          + cells[1...].joined(separator: "  "))
    }
    line(["", "failed writes", "failed for", "longest write"])
    for (way, report) in reports {
      line([
        way.rawValue, Self.right("\(report.failedWrites)", 13),
        Self.right(Self.milliseconds(report.failedFor), 10),
        Self.right(Self.milliseconds(report.longestWrite), 13),
      ])
    }
    let states = Set(reports.flatMap(\.1.failures.keys)).subtracting(["", "25006", "57P01"])
    guard states.isEmpty, reports.last?.1.failedWrites == 0 else {
      throw HarnessError(
        "the application met other errors than a refused write or an ended session: \(reports)")
    }
  }

  private static func measured(_ pair: ClusterPair) async throws -> [(Way, PooledApplication.Report)] {
    var reports: [(Way, PooledApplication.Report)] = []
    for way in Way.allCases {
      try await pair.withFreshDatabases(named: "shop") { databases in
        reports.append((way, try await lead(way, databases, pair.encryptionArguments)))
      }
    }
    return reports
  }

  private static func lead(
    _ way: Way, _ databases: FreshDatabases, _ encryption: [String]
  ) async throws -> PooledApplication.Report {
    try await SQLSession.run(
      [
        """
        CREATE TABLE visit (
          id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT now())
        """,
        "GRANT SELECT, INSERT ON visit TO \(role)",
      ], on: databases.source)
    let login = databases.source.with(["user": role, "password": "shop"])
    let pooler = way == .pgBouncer ? try await PgBouncer.start(before: login) : nil
    func stop() async { try? await pooler?.stop() }
    do {
      let report = try await lead(way, databases, encryption, pooler)
      await stop()
      return report
    } catch {
      await stop()
      throw error
    }
  }

  private static func lead(
    _ way: Way, _ databases: FreshDatabases, _ encryption: [String], _ pooler: PgBouncer?
  ) async throws -> PooledApplication.Report {
    let folder = FileManager.default.temporaryDirectory.appending(path: "shop-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let name = folder.appending(path: "address")
    let plan = folder.appending(path: "replicate.yaml")
    try Data(steps(way, name, pooler, databases).utf8).write(to: plan)
    let source = databases.source
    let application = PooledApplication(sessions: 4, statement: "INSERT INTO visit DEFAULT VALUES") {
      if let pooler { return pooler.connection }
      let login = ["user": role, "password": "shop"]
      guard let moved = try? String(contentsOf: name, encoding: .utf8) else { return source.with(login) }
      let parts = moved.split { $0.isWhitespace }.map(String.init)
      guard parts.count == 3 else { throw HarnessError("no address: \(moved)") }
      return source.with(login.merging(["host": parts[0], "port": parts[1], "dbname": parts[2]]) { $1 })
    }
    let program = ReplicateProcess(source: databases.source, target: databases.target)
    application.start()
    do {
      let engine = try await program.start(
        ["start", "--no-reverse", "--config", plan.path(percentEncoded: false)] + encryption)
      try await engine.waitUntil("readiness for a cutover", within: .seconds(60)) {
        let run = try await program.run("status", "--json")
        guard run.exitCode == 0 else { return false }
        return try JSONDecoder().decode(Status.self, from: Data(run.output.utf8)).ready
      }
      let cutover = try await program.run("cutover", "--yes")
      guard cutover.exitCode == 0 else { throw HarnessError(cutover.output + cutover.errors) }
      if way == .restart {
        // As long as a service takes to be rolled over, at the very least.
        try await Task.sleep(for: .seconds(3))
        application.restart()
      }
      let before = application.report.writes
      try await waitUntil("writes on the target", within: .seconds(30)) {
        application.report.writes > before + 100
      }
    } catch {
      await application.stop()
      throw error
    }
    await application.stop()
    return application.report
  }

  private static func steps(
    _ way: Way, _ name: URL, _ pooler: PgBouncer?, _ databases: FreshDatabases
  ) -> String {
    let address = """
      switch:
        - step: exec
          command: echo "$REPLICATE_TARGET_HOST $REPLICATE_TARGET_PORT $REPLICATE_TARGET_DATABASE"
            >\(name.path(percentEncoded: false))

      """
    switch way {
    case .restart: return address
    case .terminateSessions: return address + "  - step: terminate-sessions\n    roles: [\(role)]\n"
    case .pgBouncer:
      return """
        switch:
          - step: pgbouncer
            poolers:
              - admin: "\(pooler?.admin.text ?? "")"
                database: \(databases.name)
                config: \(pooler?.configuration ?? "")

        """
    }
  }

  private static func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  private static func milliseconds(_ duration: Duration) -> String {
    "\(Int(duration / .milliseconds(1))) ms"
  }
}
