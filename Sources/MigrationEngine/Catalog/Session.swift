package import LibPQ

/// Opens connections whose settings are fixed, so that no role's or database's own settings change what
/// values look like, what names mean, or how long a statement may take.
package enum Session {
  /// For SQL on either end.
  /// - Throws: `PostgresError`; a failed login tells what libpq said.
  package static func open(_ string: ConnectionString, end: String, purpose: String) async throws
    -> Connection
  {
    let connection = try await Connection.open(prepared(string, purpose: purpose), end: end)
    try await fixSettings(of: connection)
    return connection
  }

  /// For walsender commands on the source (manual, section 55.4): such a connection speaks the simple
  /// protocol only.
  package static func openReplication(_ source: ConnectionString, end: String = "source") async throws
    -> Connection
  {
    let string = prepared(source, purpose: "stream").setting("replication", to: "database")
    let connection = try await Connection.open(string, end: end)
    try await fixSettings(of: connection)
    return connection
  }

  /// Keeps the user's event triggers from seeing what the session does, where its role may: one that writes
  /// into a table would be refused by our own fence, and our DDL with it.
  package static func actAsReplica(_ connection: Connection) async throws {
    do {
      try await connection.query(
        "SET session_replication_role = replica", doing: "keeping event triggers from our own DDL",
        within: .seconds(15))
    } catch let error as PostgresError where error.sqlState == .insufficientPrivilege {
      // They fire then, as for everybody.
    }
  }

  /// Lets the server end what it does within a second when its client is gone, also in the middle of a
  /// statement that reads for minutes or waits for a lock (manual, section 20.3.1
  /// `client_connection_check_interval`).
  package static func noticeLostClient(of connection: Connection) async throws {
    do {
      try await connection.query(
        """
        SELECT pg_catalog.set_config(name, '1s', false) FROM pg_catalog.pg_settings
        WHERE name = 'client_connection_check_interval'
        """, doing: "asking the server to notice when this client is gone", within: .seconds(15))
    } catch let error as PostgresError where error.sqlState == .invalidParameterValue {
      // Its operating system cannot; it notices when it sends.
    }
  }

  /// For a transaction that reads tables by their names: a view that has taken the name of one meanwhile
  /// would run its owner's code with our rights. As pg_dump does it, where the server knows the setting (17,
  /// and older ones since August 2024).
  package static let readingTablesOnly = readingTablesOnly(isLocal: true)

  /// - Parameter isLocal: only in the transaction.
  package static func readingTablesOnly(isLocal: Bool) -> String {
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

  /// The path first and alone: until it is empty, operators may be those of a schema that stands before
  /// `pg_catalog` in it, and would run with our rights.
  ///
  /// `pg_settings` decides what the server knows: `idle_session_timeout` came with 14, `transaction_timeout`
  /// with 17.
  private static func fixSettings(of connection: Connection) async throws {
    try await connection.query(
      """
      SELECT pg_catalog.set_config('search_path', '', false);
      SELECT pg_catalog.set_config(s.name, wanted.value, false)
      FROM pg_catalog.pg_settings s JOIN (VALUES
        ('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'),
        ('extra_float_digits', '3'), ('bytea_output', 'hex'), ('standard_conforming_strings', 'on'),
        ('row_security', 'off'), ('default_transaction_read_only', 'off'),
        ('default_transaction_isolation', 'read committed'), ('default_transaction_deferrable', 'off'),
        ('statement_timeout', '0'), ('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
        ('idle_session_timeout', '0'), ('transaction_timeout', '0'), ('client_min_messages', 'warning'),
        ('synchronous_commit', 'on'), ('xmloption', 'content'), ('lc_monetary', 'C'),
        ('check_function_bodies', 'off'),
        -- Bytes that mean nothing in particular can be converted to nothing.
        ('client_encoding', CASE pg_catalog.current_setting('server_encoding')
          WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END),
        -- The server notices within half a minute that this machine is gone, and lets go of locks and slot.
        ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
        ('tcp_user_timeout', '30000')
      ) AS wanted (name, value) ON pg_catalog.lower(s.name) = pg_catalog.lower(wanted.name)
      """, doing: "fixing the session's settings", within: .seconds(15))
  }
}

/// Runs `body`, then `last` whether it threw or not: what was opened is closed on every way out, and `defer`
/// cannot await.
package func finally<Value>(
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
