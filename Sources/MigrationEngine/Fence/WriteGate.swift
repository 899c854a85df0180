import LibPQ

/// Keeps the end that a cutover moves to closed.
struct WriteGate: Sendable {
  /// Lets writes pass: one commit for all tables.
  var open: @Sendable (Connection) async throws -> Void
  /// Prepares the session that will open it.
  var prepare: @Sendable (Connection) async throws -> Void
  /// - Throws: `MigrationError` when it is not known.
  var isOpen: @Sendable (Connection) async throws -> Bool

  /// For the target.
  static let ofTarget = WriteGate(
    open: { try await TargetFence($0).open() },
    prepare: { try await TargetFence($0).rehearseOpening() },
    isOpen: { try await TargetFence($0).isOpen() })

  /// For the source, which an earlier cutover has sealed.
  static let ofSealedSource = WriteGate(
    open: { source in
      // First: a session that starts as soon as it opens must find both gone.
      try await dropReadOnlyDefault(source)
      try await WriteFence(source).unseal()
    },
    prepare: { source in
      try await ensureReadOnlyDefault(source)
      try await WriteFence(source).rehearseUnsealing()
    },
    isOpen: { source in
      switch try await SourceState(source).fence() {
      case .sealed: return false
      case .open: return true
      case .fenced, nil:
        throw MigrationError(
          .failed, doing: "looking whether the source is open", reason: "its fence is missing or was changed",
          remedy: "Somebody changed schema replicate there. Find out whether the source has taken writes.")
      }
    })

  /// - Throws: `MigrationError` where the database's setting could not be reset after the seal.
  private static func ensureReadOnlyDefault(_ source: Connection) async throws {
    let rows = try await source.query(
      """
      SELECT pg_catalog.quote_ident(d.datname) AS name, pg_catalog.quote_ident(CURRENT_USER) AS role,
        pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(d.datdba)) AS owner
      FROM pg_catalog.pg_database d
        JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0
      WHERE d.datname = pg_catalog.current_database() AND NOT pg_catalog.pg_has_role(d.datdba, 'USAGE')
        AND EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) AS e (entry)
          WHERE e.entry ~ '^default_transaction_read_only=')
      """, doing: "looking whether the \(source.end)'s default_transaction_read_only could be reset",
      within: .seconds(15))
    guard let row = rows.first else { return }
    throw MigrationError(
      .failed, doing: "opening the \(source.end) for writes, to see that it can be",
      reason: "default_transaction_read_only is on for database \(try row.text("name")), and our role does "
        + "not own that",
      remedy: "On the \(source.end): GRANT \(try row.text("owner")) TO \(try row.text("role"));")
  }

  /// Resets what the end of a cutover set on the end that was left, where our role owns the database.
  static func dropReadOnlyDefault(_ source: Connection) async throws {
    let rows = try await source.query(
      """
      SELECT d.datname FROM pg_catalog.pg_database d
        JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0
      WHERE d.datname = pg_catalog.current_database() AND EXISTS (SELECT
        FROM pg_catalog.unnest(s.setconfig) AS e (entry) WHERE e.entry ~ '^default_transaction_read_only=')
      """, doing: "looking for the \(source.end)'s default_transaction_read_only", within: .seconds(15))
    guard let name = try rows.first?.text("datname") else { return }
    try await source.query(
      "ALTER DATABASE \(SQL.identifier(name)) RESET default_transaction_read_only",
      doing: "resetting default_transaction_read_only on the \(source.end)", within: .seconds(15))
  }
}
