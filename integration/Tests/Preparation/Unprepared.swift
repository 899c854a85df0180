import Clusters
import Foundation
import LibPQ
import Testing

/// A server of the test's own whose WAL is not logical yet, with the program that prepares it.
struct Unprepared: Sendable {
  let cluster: Cluster
  let databases: FreshDatabases
  let replicate: ReplicateProcess
  /// Restarts the server as its user; the log goes where the server's log was.
  let restart: String
  private let folder: String

  static func run(
    _ settings: [String: String] = [:], environment: [String: String] = [:],
    _ body: @Sendable (Unprepared) async throws -> Void
  ) async throws {
    let cluster = try await Cluster(
      named: "unprepared", .init(settings: ["wal_level": "replica"].merging(settings) { $1 }))
    try await cluster.start()
    let result: Result<Void, any Error>
    do {
      try await ClusterPair.shared.withFreshDatabases(named: "unprepared") { databases in
        let folder = try await freshDirectory()
        let scene = Unprepared(
          cluster: cluster, databases: databases,
          replicate: ReplicateProcess(
            source: cluster.superuser, target: databases.target, environment: environment),
          restart: try command("restart -w -t 60 -m fast -l \(cluster.socketDirectory)/log", of: cluster),
          folder: folder)
        try await body(scene)
      }
      result = .success(())
    } catch {
      result = .failure(error)
    }
    try await cluster.destroy()
    try result.get()
  }

  /// A command of pg_ctl's for a shell.
  static func command(_ words: String, of cluster: Cluster) throws -> String {
    let program = "\(try PostgresPrograms.path("pg_ctl")) \(words) -D \(cluster.dataDirectory)"
    guard geteuid() == 0 else { return program }
    return "cd / && setpriv --reuid=postgres --regid=postgres --init-groups -- \(program)"
  }

  func pgCtl(_ words: String) throws -> String { try Self.command(words, of: cluster) }

  /// The program as another role of the server.
  func replicate(as login: [String: String]) -> ReplicateProcess {
    ReplicateProcess(source: cluster.superuser.with(login), target: databases.target)
  }

  func prepare(
    _ arguments: [String], by process: ReplicateProcess? = nil
  ) async throws -> Finished {
    try await (process ?? replicate).run(["prepare"] + arguments)
  }

  func execute(_ statements: String...) async throws {
    try await SQLSession.run(statements, on: cluster.superuser)
  }

  func value(_ sql: String) async throws -> String? {
    try await SQLSession.value(sql, on: cluster.superuser)
  }

  /// What ALTER SYSTEM has stored.
  func stored() async throws -> String {
    try await value(
      """
      SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_file_settings
      WHERE sourcefile LIKE '%postgresql.auto.conf'
      """) ?? ""
  }

  func started() async throws -> String? { try await value("SELECT pg_postmaster_start_time()") }

  /// The names of what `check` finds against the source.
  func blockers() async throws -> [String] {
    let check = try await replicate.run(["check", "--json"] + ClusterPair.shared.encryptionArguments)
    return check.output.matches(
      of: /"check":"([a-z_]+)","object":"source","remedy":"[^"]*","severity":"blocker"/
    )
    .map { String($0.output.1) }
  }

  /// A plan's file whose only step is the pooler.
  func plan(_ pooler: PgBouncer) async throws -> String {
    let path = folder + "/replicate.yaml"
    let text = """
      switch:
        - step: pgbouncer
          poolers:
            - admin: "\(pooler.admin.text)"
              database: postgres
              config: \(pooler.configuration)
      """
    try Data(text.utf8).write(to: URL(filePath: path))
    return path
  }
}
