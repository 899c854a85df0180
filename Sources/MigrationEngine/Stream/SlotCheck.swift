import LibPQ
import LogicalReplication

/// Makes sure, before reading from the slot, that it still has everything that the target lacks, and that
/// nobody else reads from it.
struct SlotCheck {
  let slot: SlotName
  var direction = Direction.forward

  private var action: String { "resuming from replication slot \(slot)" }
  private var begin: String {
    "Changes are missing that nobody can send again: "
      + (direction == .forward
        ? "abort this migration and begin a new one."
        : "no rollback is possible any more. Run replicate finish.")
  }

  /// How long a terminated session may take to release the slot.
  private static let limit = Duration.seconds(30)

  /// Terminates whatever reads from the slot: a walsender left by a dead engine, since we hold the lock that
  /// admits only one.
  /// - Returns: up to where it is confirmed; without a reader this no longer moves.
  /// - Throws: `MigrationError` when the slot is gone, lost or foreign.
  func take(on source: Connection) async throws -> LSN {
    let deadline = ContinuousClock.now + Self.limit
    while true {
      let (confirmed, pid) = try await look(source)
      guard let pid else { return confirmed }
      guard ContinuousClock.now < deadline else {
        throw MigrationError(
          .failed, doing: action, reason: "session \(pid) still holds the slot, although it was terminated",
          remedy: "Find out what it waits for, on the \(direction.from); then start again.")
      }
      try await source.query(
        "SELECT pg_catalog.pg_terminate_backend($1::integer)", [pid],
        doing: "ending the session that still holds replication slot \(slot)", within: .seconds(15))
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// - Parameter progress: read when the slot was taken, so that no earlier engine moves it.
  /// - Throws: `MigrationError` when the slot is ahead of what we confirmed.
  func verify(_ confirmed: LSN, _ progress: StoredProgress) throws {
    let ours = max(progress.appliedLSN, progress.confirmedLSN)
    guard confirmed <= ours else {
      throw MigrationError(
        .failed, doing: action,
        reason: "it was confirmed up to \(confirmed), the \(direction.to) is at \(ours): "
          + "somebody else has read from it",
        remedy: begin)
    }
  }

  private func look(_ source: Connection) async throws -> (confirmed: LSN, pid: String?) {
    let rows = try await source.query(
      """
      SELECT pg_catalog.pg_is_in_recovery() AS is_standby, s.slot_name, s.plugin,
        s.database = pg_catalog.current_database() AS is_here, s.wal_status, s.confirmed_flush_lsn,
        s.active_pid
      FROM (VALUES (1)) AS one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1
      """, [slot.description], doing: action, within: .seconds(15))
    guard let row = rows.first, try !row.bool("is_standby") else {
      // During a failover a name may lead to a standby for a while.
      throw PostgresError(
        code: .server, action: action, message: "the \(direction.from) answers as a standby",
        sqlState: .readOnlySQLTransaction,
        hint: "Point its name to the primary, or promote it; the engine continues by itself.")
    }
    guard try row.optional("slot_name") != nil else {
      throw MigrationError(
        .failed, doing: action, reason: "the slot no longer exists",
        remedy: "Slots do not survive a failover or a restore of the \(direction.from). \(begin)")
    }
    guard try row.optional("plugin") == "pgoutput", try row.optional("is_here") == "t" else {
      throw MigrationError(
        .failed, doing: action, reason: "the slot belongs to another plugin or database", remedy: begin)
    }
    guard try row.optional("wal_status") != "lost" else {
      throw MigrationError(
        .failed, doing: action,
        reason: "the \(direction.from) has removed WAL that the slot needs (wal_status is lost)",
        remedy: "\(begin) Raise max_slot_wal_keep_size on the \(direction.from) before.")
    }
    guard let confirmed = LSN(try row.text("confirmed_flush_lsn")) else {
      throw MigrationError(
        .failed, doing: action, reason: "the \(direction.from) reports no position for it", remedy: begin)
    }
    return (confirmed, try row.optional("active_pid"))
  }
}
