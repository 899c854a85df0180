import Clusters
import Foundation
import LibPQ

/// Servers as a provider of databases gives them, after what Amazon documents of RDS and Aurora: the
/// superuser is the provider's own, extensions belong to it, and functions that look at the machine are
/// withheld. They are PostgreSQL's own servers: nothing else of Aurora is imitated.
///
/// Two things stand for what the provider's own builds let a member of its roles do: the right to set
/// session_replication_role, and REPLICATION for membership in rds_replication.
struct Provider: Sendable {
  /// The provider's superuser.
  static let superuser = "rdsadmin"
  /// The role that its customer is given: it owns the application's database.
  static let admin = "app_admin"
  /// The application's role, whose login hangs on a membership.
  static let web = "app_web"

  private static let password = "adm1n"
  static let login = ["user": admin, "password": password]

  let scene: Scene
  let servers: ClusterPair
  /// What the provider installs, as aws_commons. The name is the test's own, since its files lie with the
  /// server's.
  let extensionName: String

  /// Runs `body` with the application's database on two servers of a provider, and the program as its admin.
  /// - Parameters:
  ///   - libraries: that each server loads besides pg_stat_statements; each is an extension as well.
  ///   - settings: of the servers, for the name of the database.
  ///   - shiftsPositions: functions tell positions of the WAL from another range than the stream's.
  static func run(
    _ name: String, libraries: [String] = [], shiftsPositions: Bool = false,
    settings: (String) -> [String: String] = { _ in [:] },
    isolation: isolated (any Actor)? = #isolation, _ body: (Provider) async throws -> Void
  ) async throws {
    let extensionName = "replicate_commons_\(name)_\(getpid())"
    try await ExtensionFiles.with(files(of: extensionName)) {
      let preloaded = ["pg_stat_statements"] + libraries
      let loaded = ["shared_preload_libraries": preloaded.joined(separator: ",")]
      let source = try await Cluster(
        named: "\(name)-source", .init(settings: loaded, superuser: superuser))
      let target = try await Cluster(
        named: "\(name)-target", .init(settings: loaded, tls: true, superuser: superuser))
      func destroy() async {
        for server in [source, target] { try? await server.destroy() }
      }
      do {
        for server in [source, target] {
          try await server.start()
          try await SQLSession.run(roles, on: server.superuser)
        }
        let servers = ClusterPair(source: source, target: target)
        try await Scene.run(name, on: servers) { scene in
          let database = scene.databases.name
          let settings = settings(database)
          for (server, end) in [(source, Scene.End.source), (target, .target)] {
            if !settings.isEmpty {
              try await server.set(settings)
              try await server.restart()
            }
            try await scene.run(installation(database, preloaded + [extensionName]), on: end)
            if shiftsPositions { try await scene.run(shift(terabytes: end == .source ? 3 : 1), on: end) }
          }
          let ours = scene.connecting(source: login, target: login)
          try await body(Provider(scene: ours, servers: servers, extensionName: extensionName))
        }
      } catch {
        await destroy()
        throw error
      }
      await destroy()
    }
  }

  private static let roles =
    ["rds_superuser", "rds_replication", "rds_iam", "rds_password"].map { "CREATE ROLE \($0)" } + [
      """
      GRANT pg_monitor, pg_signal_backend, pg_checkpoint, rds_replication, rds_password TO rds_superuser
      WITH ADMIN OPTION
      """, "GRANT SET ON PARAMETER session_replication_role TO rds_superuser",
      "CREATE ROLE \(admin) LOGIN CREATEDB CREATEROLE REPLICATION PASSWORD '\(password)'",
      "GRANT rds_superuser TO \(admin) WITH ADMIN OPTION", "CREATE DATABASE \(superuser)",
      "REVOKE ALL ON DATABASE \(superuser) FROM PUBLIC",
    ]

  /// Privileges on functions are a database's own.
  private static func installation(_ database: String, _ extensions: [String]) -> [String] {
    ["ALTER DATABASE \(quotedIdentifier(database)) OWNER TO \(admin)"]
      + extensions.map { "CREATE EXTENSION \($0)" }
      + withheld.map { "REVOKE EXECUTE ON FUNCTION pg_catalog.\($0) FROM PUBLIC" }
  }

  /// Far from the stream's range, and for each end differently. The server calls its own functions by their
  /// numbers, whatever is put in their place: so they get other names.
  private static func shift(terabytes: Int) -> [String] {
    let functions = [
      ("pg_current_wal_lsn", "", 0), ("pg_current_wal_flush_lsn", "", 0),
      ("pg_current_wal_insert_lsn", "", 0),
      ("pg_logical_emit_message", "boolean, text, text", 3),
      ("pg_logical_emit_message", "boolean, text, bytea", 3),
    ]
    return ["SET allow_system_table_mods = on"]
      + functions.flatMap { name, parameters, count in
        let arguments = (1..<count + 1).map { "$\($0)" }.joined(separator: ", ")
        return [
          "ALTER FUNCTION pg_catalog.\(name)(\(parameters)) RENAME TO own_\(name)",
          """
          CREATE FUNCTION pg_catalog.\(name)(\(parameters)) RETURNS pg_lsn LANGUAGE sql STRICT AS
          'SELECT pg_catalog.own_\(name)(\(arguments)) + \(terabytes)::numeric * 1099511627776'
          """,
        ]
      }
  }

  private static let withheld = [
    "pg_control_system()", "pg_current_wal_insert_lsn()", "pg_read_file(text)", "pg_stat_file(text)",
    "pg_ls_dir(text)",
  ]

  /// A type and a function in a schema that CREATE EXTENSION makes.
  private static func files(of extensionName: String) -> [String: String] {
    [
      "\(extensionName).control": """
      comment = 'what the provider needs'
      default_version = '1'
      relocatable = false
      schema = aws_commons

      """,
      "\(extensionName)--1.sql": """
      CREATE TYPE s3_uri AS (bucket text, path text);
      CREATE FUNCTION create_s3_uri(bucket text, path text) RETURNS s3_uri LANGUAGE sql IMMUTABLE AS
        'SELECT ROW(bucket, path)::@extschema@.s3_uri';

      """,
    ]
  }

  /// The same, with the program logging in by what a command prints.
  func loggingIn(by command: String) throws -> Scene {
    func end(_ server: Clusters.ConnectionString) throws -> Clusters.ConnectionString {
      let login = server.with(["user": Self.admin])
      return Clusters.ConnectionString(try LibPQ.ConnectionString(login.text, for: "end").redacted)
    }
    return Scene(
      databases: scene.databases,
      replicate: ReplicateProcess(
        source: try end(scene.databases.source), target: try end(scene.databases.target),
        environment: [
          "REPLICATE_SOURCE_PASSWORD_COMMAND": command, "REPLICATE_TARGET_PASSWORD_COMMAND": command,
        ]))
  }

  /// Starts an engine that carries the target's writes back after the cutover.
  func start(_ options: String...) async throws -> BackgroundProcess {
    try await scene.replicate.start(["start", "--allow-unencrypted-target"] + options)
  }

  /// Runs statements on the source as the admin.
  func source(_ sql: String...) async throws {
    try await SQLSession.run(sql, on: scene.databases.source.with(Self.login))
  }

  /// Runs statements on the target as the admin.
  func target(_ sql: String...) async throws {
    try await SQLSession.run(sql, on: scene.databases.target.with(Self.login))
  }
}
