import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// One migration under test: a database on each end, the program, and what its status says.
struct Scene: Sendable {
  let databases: FreshDatabases
  let replicate: ReplicateProcess
  /// Of the test's own.
  var connections = EngineConnections()

  /// Runs `body` with a fresh pair of databases.
  /// - Parameters:
  ///   - pair: other servers than the suite's.
  ///   - environment: what the program has besides its ends.
  static func run(
    _ name: String, on pair: ClusterPair? = nil, environment: [String: String] = [:],
    isolation: isolated (any Actor)? = #isolation, _ body: (Scene) async throws -> Void
  ) async throws {
    let servers = if let pair { pair } else { try await ClusterPair.shared }
    try await servers.withFreshDatabases(named: name) { databases in
      let scene = Scene(
        databases: databases,
        replicate: ReplicateProcess(
          source: databases.source, target: databases.target, environment: environment))
      do {
        try await body(scene)
      } catch {
        await scene.connections.close()
        throw error
      }
      await scene.connections.close()
    }
  }

  /// The same migration with nothing of the first machine but the two connection strings.
  func onAnotherMachine() async throws -> Scene {
    let directory = try await freshDirectory()
    return connecting(
      environment: ["HOME": directory, "TMPDIR": directory, "XDG_RUNTIME_DIR": directory, "USER": "other"])
  }

  /// The same migration by a program with other parameters in its connection strings, and with more in its
  /// environment.
  func connecting(
    source: [String: String] = [:], target: [String: String] = [:], environment: [String: String] = [:]
  ) -> Scene {
    Scene(
      databases: databases,
      replicate: ReplicateProcess(
        source: databases.source.with(source), target: databases.target.with(target),
        environment: environment), connections: connections)
  }

  /// Starts an engine.
  /// - Parameters:
  ///   - options: besides those of the target's encryption.
  ///   - reverse: it carries the target's writes back after the cutover; otherwise it ends with it.
  ///   - failpoint: as `Failpoint` spells it; nil: none.
  func start(
    _ options: [String], reverse: Bool = false, meeting failpoint: String? = nil
  ) async throws -> BackgroundProcess {
    let environment = failpoint.map { ["REPLICATE_FAILPOINT": $0] } ?? [:]
    return try await replicate.with(environment).start(
      ["start"] + (reverse ? [] : ["--no-reverse"]) + ClusterPair.shared.encryptionArguments + options)
  }

  /// The same with each option as an argument.
  func start(
    _ options: String..., reverse: Bool = false, meeting failpoint: String? = nil
  ) async throws -> BackgroundProcess {
    try await start(options, reverse: reverse, meeting: failpoint)
  }

  func status() async throws -> Status {
    let run = try await replicate.run("status", "--json")
    guard run.exitCode == 0 else { throw HarnessError("status: \(run.exitCode) \(run.errors)") }
    return try JSONDecoder().decode(Status.self, from: Data(run.output.utf8))
  }

  func report() async throws -> MigrationReport {
    let run = try await replicate.run("report", "--json")
    guard run.exitCode == 0 else { throw HarnessError("report: \(run.exitCode) \(run.errors)") }
    return try JSONDecoder().decode(MigrationReport.self, from: Data(run.output.utf8))
  }

  /// Waits until the status satisfies `condition` while `engine` runs.
  func waitUntil(
    _ what: String, _ engine: BackgroundProcess, within limit: Duration = .seconds(90),
    _ condition: @Sendable (Status) -> Bool
  ) async throws {
    let look = StatusLook(databases)
    let result: Result<Void, any Error>
    do {
      try await engine.waitUntil(what, within: limit, every: .milliseconds(50)) {
        try await look.status().map(condition) ?? false
      }
      result = .success(())
    } catch {
      result = .failure(error)
    }
    await look.close()
    try result.get()
  }

  func waitUntilReady(_ engine: BackgroundProcess) async throws {
    try await waitUntil("ready for a cutover", engine) { $0.phase == .streaming && $0.ready }
  }

  /// A cutover that fails once it is armed, since the target lacks sequence `counter`: it leaves the fence on
  /// every table, open. From then on a writer under way holds up the fence instead of the arming.
  func armByFailing() async throws {
    try await target("ALTER SEQUENCE counter RENAME TO away")
    let failed = try await replicate.run(
      "cutover", "--yes", "--accept-difference", "sequence public.counter", "--accept-difference",
      "sequence public.away")
    #expect(failed.exitCode == 5, "\(failed.output)\(failed.errors)")
    #expect(failed.errors.contains("counter"), "the cause is named: \(failed.errors)")
    #expect(try await sourceValue("SELECT state FROM replicate.fence()") == "open")
    try await target("ALTER SEQUENCE away RENAME TO counter")
  }

  func waitForFence(_ cutover: BackgroundProcess) async throws {
    try await cutover.waitUntil("the fence", within: .seconds(20)) {
      try await sourceValue("SELECT state FROM replicate.fence()") == "fenced"
    }
  }

  enum End { case source, target }

  func server(_ end: End) -> ConnectionString { end == .source ? databases.source : databases.target }

  /// Every large object with its owner, privileges, comment and a digest of its content.
  func largeObjects(_ end: End) async throws -> [[String?]] {
    let session = try await SQLSession(server(end))
    let rows = try await session.rows(
      """
      SELECT m.oid, pg_get_userbyid(lomowner), lomacl::text, obj_description(m.oid, 'pg_largeobject'),
        md5(lo_get(m.oid)) FROM pg_largeobject_metadata m ORDER BY m.oid
      """)
    await session.close()
    return rows
  }

  func source(_ sql: String...) async throws { try await SQLSession.run(sql, on: databases.source) }
  func target(_ sql: String...) async throws { try await SQLSession.run(sql, on: databases.target) }

  func sourceValue(_ sql: String) async throws -> String? { try await value(sql, databases.source) }
  func targetValue(_ sql: String) async throws -> String? { try await value(sql, databases.target) }

  private func value(_ sql: String, _ server: ConnectionString) async throws -> String? {
    try await SQLSession.value(sql, on: server)
  }

  /// The SQLSTATE a statement is refused with; nil when it is not.
  func refusal(
    of sql: String, on server: ConnectionString, settings: [String: String] = [:]
  ) async throws -> String? {
    try await SQLSession.refusal(of: [sql], on: server, settings: settings)
  }

  /// What of a migration is left on the source: each a line, empty when there is no trace.
  func tracesOnSource() async throws -> [String] {
    let session = try await SQLSession(databases.source)
    let rows = try await session.rows(
      """
      SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
      UNION ALL SELECT 'publication ' || pubname FROM pg_publication
      UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'replicate'
      UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger
        WHERE NOT tgisinternal
      UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname ~ 'guard|replicate'
        AND pronamespace::regnamespace::text !~ '^pg_'
      UNION ALL SELECT 'setting ' || array_to_string(setconfig, ',') FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
      UNION ALL SELECT 'identity of ' || oid::regclass FROM pg_class
        WHERE relkind = 'r' AND relreplident <> 'd'
          AND relnamespace::regnamespace::text !~ '^(pg_|information)'
      """)
    await session.close()
    return rows.compactMap { $0.first ?? nil }
  }

  /// What a migration left on a target that was empty before.
  func tracesOnTarget() async throws -> [String] {
    let session = try await SQLSession(databases.target)
    let rows = try await session.rows(
      """
      SELECT 'schema ' || nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
      UNION ALL SELECT 'relation ' || oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace
      UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
      """)
    await session.close()
    return rows.compactMap { $0.first ?? nil }
  }
}
