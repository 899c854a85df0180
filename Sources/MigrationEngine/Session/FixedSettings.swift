import LibPQ

extension Session {
  /// Of every session of ours, and of those of pg_dump and pg_restore, whatever a role, a database, a
  /// connection string or the environment sets: what values and names look like and how they are read, what a
  /// statement may do and how long it may take, and how catalogs and keys are looked up.
  ///
  /// The path first: until it is empty, operators may be those of a schema that stands before `pg_catalog` in
  /// it, and would run with our rights.
  static let fixed =
    [
      Setting("search_path", ""), Setting("role", "none"),
    ] + text + conduct + plans

  /// How values and names are printed and read.
  private static let text = [
    Setting("DateStyle", "ISO, YMD"), Setting("IntervalStyle", "postgres"), Setting("TimeZone", "UTC"),
    Setting("extra_float_digits", "3"), Setting("bytea_output", "hex"), Setting("array_nulls", "on"),
    Setting("quote_all_identifiers", "off"), Setting("standard_conforming_strings", "on"),
    Setting("transform_null_equals", "off"), Setting("xmloption", "content"),
    Setting("xmlbinary", "base64"), Setting("lc_monetary", "C"),
  ]

  private static let conduct = [
    Setting("row_security", "off"), Setting("gin_fuzzy_search_limit", "0"),
    Setting("default_transaction_read_only", "off"),
    Setting("default_transaction_isolation", "read committed"),
    Setting("default_transaction_deferrable", "off"), Setting("statement_timeout", "0"),
    Setting("lock_timeout", "0"), Setting("idle_in_transaction_session_timeout", "0"),
    Setting("idle_session_timeout", "0", since: 140_000),
    Setting("transaction_timeout", "0", since: 170_000), Setting("exit_on_error", "off"),
    Setting("client_min_messages", "warning"), Setting("synchronous_commit", "on"),
    Setting("check_function_bodies", "off"), Setting("default_tablespace", ""),
    Setting("default_table_access_method", "heap", since: 120_000),
    // The server notices within half a minute that this machine is gone, and lets go of locks and slot.
    Setting("tcp_keepalives_idle", "10"), Setting("tcp_keepalives_interval", "5"),
    Setting("tcp_keepalives_count", "3"), Setting("tcp_user_timeout", "30000", since: 120_000),
  ]

  /// Without an index or a join's better ways, catalogs of many tables, pieces of tables and keys would be
  /// looked up for hours.
  private static let plans =
    [
      "bitmapscan", "hashagg", "hashjoin", "indexonlyscan", "indexscan", "material", "mergejoin", "nestloop",
      "seqscan", "sort", "tidscan",
    ].map { Setting("enable_\($0)", "on") } + [Setting("plan_cache_mode", "auto", since: 120_000)]

  /// What only a superuser may store with a database or role, and set. The last two would make damaged pages
  /// read as empty ones; of whoever may not set them `check` asks that they are off.
  static let fixedForSuperusers = [
    Setting("session_replication_role", "origin"), Setting("zero_damaged_pages", "off"),
    Setting("ignore_checksum_failure", "off"),
  ]

  static func fixSettings(of connection: Connection) async throws {
    var settings = fixed
    // Bytes that mean nothing in particular can be converted to nothing.
    if try await connection.serverEncoding() == "SQL_ASCII" {
      settings.append(Setting("client_encoding", "SQL_ASCII"))
    }
    let action = "fixing the session's settings"
    try await set(settings, on: connection, doing: action)
    // Known only now: a stored `role` may have hidden it.
    guard try await connection.isSuperuser() else { return }
    try await set(fixedForSuperusers, on: connection, doing: action)
  }

  /// The string of a connection that begins with the fixed settings, for client programs of PostgreSQL: they
  /// win over what a database or a role sets.
  static func fixed(
    _ string: ConnectionString, end: String, and others: [Setting] = []
  ) async throws -> ConnectionString {
    let connection = try await open(string, end: end, purpose: "settings")
    return try await closing(connection) {
      let version = try await connection.serverVersion()
      let settings = try await fixed + (connection.isSuperuser() ? fixedForSuperusers : []) + others
      // Also those that a service has, which options of our own would hide.
      let effective = await connection.sessionOptions
      return string.settingDefault("options", to: effective).addingOptions(
        settings.filter { $0.since <= version }.map { ($0.name, $0.value) })
    }
  }

  /// Tries a setting that takes effect only when a session begins, in a session that begins with it.
  /// - Returns: what the server said against it; nil when it has nothing against it.
  /// - Throws: `PostgresError` when no session can be opened without it either.
  static func refusal(
    of setting: Setting, on string: ConnectionString, end: String
  ) async throws -> String? {
    do {
      let trial = string.addingOptions([(setting.name, setting.value)])
      try await open(trial, end: end, purpose: "trial").close()
      return nil
    } catch let error as PostgresError {
      try await open(string, end: end, purpose: "trial").close()
      return error.message
    }
  }
}
