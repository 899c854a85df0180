import Clusters
import Foundation
import LibPQ

/// A PgBouncer that pools transactions in front of one database, reached by a socket of its own.
struct PgBouncer {
  static var isInstalled: Bool { program != nil }

  private static let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"]
    .first { FileManager.default.isExecutableFile(atPath: $0) }

  let process: BackgroundProcess
  let connection: Clusters.ConnectionString
  private let directory: URL

  static func start(before server: Clusters.ConnectionString) async throws -> PgBouncer {
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
      pool_mode = transaction
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
    let connection = Clusters.ConnectionString([
      "host": folder, "port": "6432", "user": end["user"] ?? "", "dbname": database,
    ])
    try await process.waitUntil("PgBouncer's answer", within: .seconds(20)) {
      guard let session = try? await SQLSession(connection) else { return false }
      await session.close()
      return true
    }
    return PgBouncer(process: process, connection: connection, directory: directory)
  }

  func stop() async throws {
    try await process.end()
    try FileManager.default.removeItem(at: directory)
  }
}
