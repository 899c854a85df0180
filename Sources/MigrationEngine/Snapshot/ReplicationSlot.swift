import LibPQ
import LogicalReplication

/// The slot that keeps the source's WAL for this migration.
struct ReplicationSlot: Sendable {
  let name: SlotName

  /// Creates the slot and exports the snapshot at its beginning.
  /// - Parameter limit: how long to wait for each open transaction.
  /// - Throws: `MigrationError` that names the transactions that did not end.
  func create(
    on source: ConnectionString, observer: Connection, within limit: Duration = .seconds(30)
  ) async throws -> ExportedSnapshot {
    try await Self.export(name, temporary: false, on: source, observer: observer, within: limit)
  }

  /// Creates the slot without a snapshot. It waits for every open transaction that has written; users must
  /// not wait meanwhile.
  /// - Throws: `MigrationError` that names the open transactions when they do not end within `limit`.
  func create(on connection: Connection, within limit: Duration) async throws {
    let action = "creating replication slot \(name) on the \(connection.end)"
    do {
      try await connection.query(
        "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')", [name.description],
        doing: action, within: limit)
    } catch let error as PostgresError where error.code == .timedOut {
      throw MigrationError(
        .failed, doing: action,
        reason:
          "open transactions did not end within \(limit): \(try await Self.openTransactions(connection))",
        remedy:
          "End these transactions (pg_terminate_backend(pid), ROLLBACK PREPARED 'gid'), or wait for them.")
    }
  }

  /// A newer snapshot with its LSN, from a temporary slot: for tables copied later than the rest, and to
  /// compare both ends.
  /// - Parameter limit: how long to wait for each open transaction.
  /// - Throws: `OpenTransactions` that names those that did not end.
  static func temporarySnapshot(
    on source: ConnectionString, observer: Connection, within limit: Duration = .seconds(30)
  ) async throws -> ExportedSnapshot {
    let suffix = String(UInt32.random(in: 0 ... .max), radix: 36)
    guard let name = SlotName("replicate_snapshot_\(suffix)") else {
      throw MigrationError(.failed, doing: "naming a temporary slot", reason: "the name is not valid")
    }
    return try await export(name, temporary: true, on: source, observer: observer, within: limit)
  }

  private static func export(
    _ name: SlotName, temporary: Bool, on source: ConnectionString, observer: Connection,
    within limit: Duration = .seconds(30)
  ) async throws -> ExportedSnapshot {
    let connection = try await Session.openReplication(source, end: observer.end)
    let action = "creating replication slot \(name)"
    do {
      // Creating a slot waits for every open transaction; statement_timeout does not end that wait, nor does
      // the loss of the client unless the server checks for it.
      try await Session.noticeLostClient(of: connection)
      try await connection.query("SET lock_timeout = \(Int(limit / .milliseconds(1)))", doing: action)
      let rows = try await connection.query(
        ReplicationCommand.createSlot(name, temporary: temporary), doing: action, within: limit * 2)
      guard let row = rows.first, let lsn = LSN(try row.text("consistent_point")) else {
        throw PostgresError(
          code: .unexpectedResult, action: action, message: "the server reported no consistent point")
      }
      return ExportedSnapshot(name: try row.text("snapshot_name"), lsn: lsn, holder: connection)
    } catch let error as PostgresError where error.sqlState == .lockNotAvailable || error.code == .timedOut {
      await connection.close()
      let reason = "open transactions did not end within \(limit): \(try await openTransactions(observer))"
      guard temporary else {
        throw MigrationError(
          .failed, doing: action, reason: reason,
          remedy:
            "End these transactions (pg_terminate_backend(pid), ROLLBACK PREPARED 'gid'), then try again.")
      }
      throw OpenTransactions(
        error: MigrationError(
          .failed, doing: "taking a newer snapshot of the \(observer.end)", reason: reason,
          remedy: "It continues when they have ended, by themselves or by pg_terminate_backend(pid), "
            + "ROLLBACK PREPARED 'gid'."))
    } catch {
      await connection.close()
      throw error
    }
  }

  /// The transactions that hold up a slot: whose and how old, never their statements.
  private static func openTransactions(_ observer: Connection) async throws -> String {
    let rows = try await observer.query(
      """
      SELECT pg_catalog.format('pid %s, user %s, application "%s", open for %s s',
          pid, usename, application_name, pg_catalog.round(a.age::numeric, 1)) AS line, xact_start AS since
      FROM pg_catalog.pg_stat_activity, LATERAL (SELECT
        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - xact_start) AS age) AS a
      WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
      UNION ALL
      SELECT pg_catalog.format('prepared transaction %L of %s', gid, owner), prepared
      FROM pg_catalog.pg_prepared_xacts
      ORDER BY since LIMIT 10
      """, doing: "listing open transactions", within: .seconds(15))
    let lines = try rows.map { try $0.text("line") }
    return lines.isEmpty ? "they have ended meanwhile" : lines.joined(separator: "; ")
  }

  func exists(on source: Connection) async throws -> Bool {
    let rows = try await source.query(
      "SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", [name.description],
      doing: "looking for replication slot \(name)", within: .seconds(15))
    return !rows.isEmpty
  }

  /// Drops the slot if it is there. A walsender that still serves a killed client is terminated first.
  func drop(on source: Connection) async throws {
    let action = "dropping replication slot \(name)"
    let deadline = ContinuousClock.now + .seconds(30)
    while try await exists(on: source) {
      do {
        try await source.query(
          """
          SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots
          WHERE slot_name = $1 AND active_pid IS NOT NULL
          """, [name.description], doing: action)
        try await source.query(
          "SELECT pg_catalog.pg_drop_replication_slot($1)", [name.description], doing: action,
          within: .seconds(15))
        return
      } catch let error as PostgresError
        where error.sqlState == .objectInUse && ContinuousClock.now < deadline
      {
        try await Task.sleep(for: .milliseconds(100))
      }
    }
  }
}

/// Transactions that were open when a snapshot was requested have not ended in time: the request can be
/// repeated.
struct OpenTransactions: Error {
  var error: MigrationError
}
