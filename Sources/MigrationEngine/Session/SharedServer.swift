import LibPQ

/// A pooler between here and a server that serves several clients by one session, in turn. What one of them
/// sets stays for the others: their names would mean something else, and their statements end too soon. So
/// nothing may be set through it.
enum SharedServer {
  private static let limit = Duration.seconds(10)

  /// A statement that fails with SQLSTATE 22012 where a pooler is in between, and with it the transaction
  /// that it begins.
  static func refusal(on connection: Connection) async throws -> String {
    """
    SELECT 1 OPERATOR(pg_catalog./) \
    (pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) \(try await connection.backendPID()))::pg_catalog.int4
    """
  }

  /// A pooler may give each client a session for as long as it stays: then it can be used.
  /// - Parameter first: a session of the same connection string, in which nothing was set.
  /// - Throws: `MigrationError` of kind `.blocked` when it does not.
  static func exclude(_ string: ConnectionString, _ first: Connection) async throws {
    let end = first.end
    let action = "examining the path to the \(end)"
    let second = try await Connection.open(string, end: end)
    let isShared = try await closing(second) {
      do {
        let before = try await pid(of: first, doing: action)
        try await second.query("BEGIN", doing: action, within: limit)
        let other = try await pid(of: second, doing: action)
        let after = try await pid(of: first, doing: action)
        try await second.query("ROLLBACK", doing: action, within: limit)
        return Self.isShared(first: [before, after], second: other)
      } catch let error as PostgresError where error.code == .timedOut {
        // It has no other session left for the first while the second is in a transaction.
        return true
      }
    }
    guard isShared else { return }
    throw MigrationError(
      .blocked, doing: action,
      reason: "a pooler (PgBouncer, RDS Proxy) between here and the \(end) shares server sessions between "
        + "clients: what a migration sets in its sessions would stay in theirs",
      remedy: "Give --\(end) the server's own host and port.")
  }

  /// - Parameters: process ids of the backends that served two sessions open at the same time.
  static func isShared<PID: Hashable>(first: [PID], second: PID) -> Bool {
    Set(first).count > 1 || first.contains(second)
  }

  private static func pid(of connection: Connection, doing action: String) async throws -> Int32? {
    try await connection.query("SELECT pg_catalog.pg_backend_pid() AS pid", doing: action, within: limit)
      .first?.integer("pid", as: Int32.self)
  }
}
