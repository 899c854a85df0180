import Clusters
import LibPQ
import Logging

@testable import MigrationEngine

/// What `replicate status` would say, by one connection that is kept: a process for each of many looks would
/// take from the engine what it works with.
actor StatusLook {
  private let databases: FreshDatabases
  private var connection: Connection?

  init(_ databases: FreshDatabases) { self.databases = databases }

  /// - Returns: nil before the engine has made its state, and while the target cannot be asked.
  func status() async throws -> Status? {
    let source = try LibPQ.ConnectionString(databases.source.text, for: "source")
    let target = try LibPQ.ConnectionString(databases.target.text, for: "target")
    let observer = MigrationClient(
      source: source, target: target, logger: Logger(label: "status") { _ in SwiftLogNoOpLogHandler() })
    do {
      let open: Connection
      if let connection {
        open = connection
      } else {
        open = try await Session.open(target, end: "target", purpose: "status")
        connection = open
      }
      return try await observer.status(StateStore(open))
    } catch is MigrationError {
      return nil
    } catch is PostgresError {
      await close()
      return nil
    }
  }

  func close() async {
    await connection?.close()
    connection = nil
  }
}
