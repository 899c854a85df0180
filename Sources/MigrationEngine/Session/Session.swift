package import LibPQ

/// Opens connections with fixed settings, so that no role's or database's settings change what values look
/// like, what names mean, or how long a statement may take.
package enum Session {
  /// For SQL on either end.
  /// - Throws: `PostgresError`; a failed login has libpq's message.
  package static func open(_ string: ConnectionString, end: String, purpose: String) async throws
    -> Connection
  {
    let string = prepared(string, purpose: purpose)
    let connection = try await Connection.open(string, end: end)
    do {
      try await fixSettings(of: connection)
    } catch let error as PostgresError where error.sqlState == .divisionByZero {
      try await SharedServer.exclude(string, connection)
      try await fixSettings(of: connection, whoeverServes: true)
    }
    return connection
  }

  /// For walsender commands on the source (manual, section 55.4): such a connection supports only the simple
  /// query protocol.
  static func openReplication(_ source: ConnectionString, end: String = "source") async throws
    -> Connection
  {
    let string = prepared(source, purpose: "stream").setting("replication", to: "database")
    let connection = try await Connection.open(string, end: end)
    try await fixSettings(of: connection)
    return connection
  }

  /// Hides the session's actions from the user's event triggers, where its role may: one that writes to a
  /// table would be refused by our own fence, and our DDL with it.
  static func actAsReplica(_ connection: Connection) async throws {
    do {
      try await connection.query(
        "SET session_replication_role = replica", doing: "keeping event triggers from our own DDL",
        within: .seconds(15))
    } catch let error as PostgresError where error.sqlState == .insufficientPrivilege {
      // Then they fire, as for everybody.
    }
  }

  /// Makes the server stop within a second when its client is gone, even in the middle of a statement that
  /// reads for minutes or waits for a lock (manual, section 20.3.1 `client_connection_check_interval`).
  static func noticeLostClient(of connection: Connection) async throws {
    guard try await connection.has(.clientConnectionCheck) else { return }
    do {
      try await set(
        [Setting("client_connection_check_interval", "1s")], on: connection,
        doing: "asking the server to notice when this client is gone")
    } catch let error as PostgresError where error.sqlState == .invalidParameterValue {
      // Its operating system cannot; it notices when it sends.
    }
  }

  /// For a transaction that reads tables by name: a view that has taken a table's name meanwhile would run
  /// its owner's code with our rights. As in pg_dump, where the server knows the setting (17, and older ones
  /// since August 2024).
  static let readingTablesOnly = readingTablesOnly(isLocal: true)

  /// - Parameter isLocal: only in the transaction.
  static func readingTablesOnly(isLocal: Bool) -> String {
    """
    SELECT CASE WHEN pg_catalog.current_setting('restrict_nonsystem_relation_kind', true) IS NOT NULL THEN
      pg_catalog.set_config('restrict_nonsystem_relation_kind', 'view, foreign-table', \(isLocal)) END
    """
  }

  private static func prepared(_ string: ConnectionString, purpose: String) -> ConnectionString {
    string
      .setting("application_name", to: "replicate \(purpose)")
      .setting("client_encoding", to: "UTF8")
      // A peer that vanished is noticed within half a minute instead of hours.
      .settingDefault("keepalives_idle", to: "10")
      .settingDefault("keepalives_interval", to: "5")
      .settingDefault("keepalives_count", to: "3")
      .settingDefault("tcp_user_timeout", to: "30000")
  }

  /// A server parameter, which may exist only from a version on (150000 is 15.0).
  package struct Setting: Sendable, Hashable {
    /// As `SET` takes it.
    package let name: String
    /// As text, without quotes.
    package let value: String
    let since: Int

    init(_ name: String, _ value: String, since: Int = 0) {
      (self.name, self.value, self.since) = (name, value, since)
    }
  }

  /// Sets those that the server knows for the whole session, without reading catalogs: every first catalog
  /// access of a new session takes milliseconds.
  /// - Parameter first: a statement that precedes them, in the same transaction.
  package static func set(
    _ settings: [Setting], on connection: Connection, after first: String? = nil, doing action: String
  ) async throws {
    let version = try await connection.serverVersion()
    let known = settings.filter { $0.since <= version }
    let statements = known.map { "SET \($0.name) = \(SQL.literal($0.value))" }
    try await connection.query(
      ([first].compactMap { $0 } + statements).joined(separator: "; "), doing: action, within: .seconds(15))
  }
}

/// Runs `body`, then `last` whether it threw or not: what was opened is always closed, and `defer` cannot
/// await.
func finally<Value>(
  _ last: () async -> Void, isolation: isolated (any Actor)? = #isolation,
  _ body: () async throws -> Value
) async throws -> Value {
  let result: Result<Value, any Error>
  do {
    result = .success(try await body())
  } catch {
    result = .failure(error)
  }
  await last()
  return try result.get()
}

/// Runs `body`, then closes the connections.
package func closing<Value>(
  _ connections: Connection..., isolation: isolated (any Actor)? = #isolation, body: () async throws -> Value
) async throws -> Value {
  func close() async { for connection in connections { await connection.close() } }
  return try await finally(close, body)
}
