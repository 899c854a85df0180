import LibPQ

extension Session {
  /// The settings of all our sessions, and of those of pg_dump and pg_restore, whatever a role, a database, a
  /// connection string or the environment sets: how values and names are printed and read, what a statement
  /// may do and how long it may take, and how catalogs and keys are looked up.
  ///
  /// The path first: until it is empty, operators may be those of a schema before `pg_catalog` in it, and
  /// would run with our rights.
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
    // The server notices within half a minute that this machine is gone, and releases locks and slot.
    Setting("tcp_keepalives_idle", "10"), Setting("tcp_keepalives_interval", "5"),
    Setting("tcp_keepalives_count", "3"), Setting("tcp_user_timeout", "30000", since: 120_000),
  ]

  /// Without indexes or the better join methods, looking up catalogs of many tables, pieces of tables and
  /// keys would take hours.
  private static let plans =
    [
      "bitmapscan", "hashagg", "hashjoin", "indexonlyscan", "indexscan", "material", "mergejoin", "nestloop",
      "seqscan", "sort", "tidscan",
    ].map { Setting("enable_\($0)", "on") } + [Setting("plan_cache_mode", "auto", since: 120_000)]

  /// Settings that only a superuser may store or set. The last two would make damaged pages read as empty
  /// ones; where our role may not set them, `check` requires that they are off.
  static let fixedForSuperusers = [
    Setting("session_replication_role", "origin"), Setting("zero_damaged_pages", "off"),
    Setting("ignore_checksum_failure", "off"),
  ]

  /// - Parameter whoeverServes: otherwise SQLSTATE 22012, and nothing is set, where a pooler is in between.
  static func fixSettings(of connection: Connection, whoeverServes: Bool = false) async throws {
    var settings = fixed
    // Bytes without a defined encoding cannot be converted.
    if try await connection.serverEncoding() == "SQL_ASCII" {
      settings.append(Setting("client_encoding", "SQL_ASCII"))
    }
    let action = "fixing the session's settings"
    let guardian = whoeverServes ? nil : try await SharedServer.refusal(on: connection)
    try await set(settings, on: connection, after: guardian, doing: action)
    // Known only now: a stored `role` may have hidden it.
    guard try await connection.isSuperuser() else { return }
    try await set(fixedForSuperusers, on: connection, doing: action)
  }

  /// The connection string with the fixed settings, for PostgreSQL client programs: they override what a
  /// database or role sets.
  static func fixed(
    _ string: ConnectionString, end: String, and others: [Setting] = []
  ) async throws -> ConnectionString {
    let connection = try await open(string, end: end, purpose: "settings")
    return try await closing(connection) {
      let version = try await connection.serverVersion()
      let settings = try await fixed + (connection.isSuperuser() ? fixedForSuperusers : []) + others
      // Also those of a service, which our own options would hide.
      let effective = await connection.sessionOptions
      return string.settingDefault("options", to: effective).addingOptions(
        settings.filter { $0.since <= version }.map { ($0.name, $0.value) })
    }
  }

  /// Tries a setting that takes effect only at session start, in a session that starts with it.
  /// - Returns: the server's objection; nil when there is none.
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
