import Foundation
import LibPQ

/// A PgBouncer that pools transactions in front of one database, reached by a socket of its own.
package struct PgBouncer: Sendable {
  package static var isInstalled: Bool { program != nil }

  private static let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"]
    .first { FileManager.default.isExecutableFile(atPath: $0) }

  package let process: BackgroundProcess
  package let connection: ConnectionString
  /// Its admin console, which lets in everybody.
  package let admin: ConnectionString
  private let directory: URL

  /// The file that it reads.
  package var configuration: String { directory.appending(path: "pgbouncer.ini").path(percentEncoded: false) }

  package func contents() throws -> String { try String(contentsOfFile: configuration, encoding: .utf8) }

  /// Whether clients wait in it.
  package func isPaused() async throws -> Bool {
    let name = try LibPQ.ConnectionString(connection.text, for: "pooler")["dbname"]
    let shown = try await Command.check(
      [PostgresPrograms.path("psql"), "-X", "-A", "-t", "-F", "|", "-c", "SHOW DATABASES", "-d", admin.text])
    return shown.split(separator: "\n").contains {
      let cells = $0.split(separator: "|", omittingEmptySubsequences: false)
      return cells.first.map(String.init) == name && cells.count > 11 && cells[11] == "1"
    }
  }

  package func console(_ command: String) async throws {
    try await Command.check([PostgresPrograms.path("psql"), "-X", "-q", "-c", command, "-d", admin.text])
  }

  package static func start(
    before server: ConnectionString, mode: String = "transaction"
  ) async throws -> PgBouncer {
    guard let program else { throw HarnessError("there is no pgbouncer") }
    let end = try LibPQ.ConnectionString(server.text, for: "server")
    let directory = FileManager.default.temporaryDirectory.appending(path: "pooler-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let folder = directory.path(percentEncoded: false)
    let database = end["dbname"] ?? ""
    let settings = """
      [databases]
      \(database) = host=\(end["host"] ?? "") port=\(end["port"] ?? "") user=\(end["user"] ?? "") \
      password=\(end["password"] ?? "")
      [pgbouncer]
      listen_port = 6432
      unix_socket_dir = \(folder)
      auth_type = any
      admin_users = admin
      pool_mode = \(mode)
      """
    let file = directory.appending(path: "pgbouncer.ini").path(percentEncoded: false)
    try Data(settings.utf8).write(to: URL(filePath: file))
    // PgBouncer refuses to run as root.
    var command = [program, file]
    if geteuid() == 0 {
      try await Command.check(["chown", "-R", "postgres", folder])
      command = [program, "-u", "postgres", file]
    }
    let process = try await BackgroundProcess(command)
    let connection = ConnectionString([
      "host": folder, "port": "6432", "user": end["user"] ?? "", "dbname": database,
    ])
    let admin = ConnectionString([
      "host": folder, "port": "6432", "user": "admin", "dbname": "pgbouncer",
    ])
    try await process.waitUntil("PgBouncer's answer", within: .seconds(20)) {
      guard let session = try? await SQLSession(connection) else { return false }
      await session.close()
      return true
    }
    return PgBouncer(process: process, connection: connection, admin: admin, directory: directory)
  }

  package func stop() async throws {
    try await process.end()
    try FileManager.default.removeItem(at: directory)
  }
}
