import LibPQ
import LogicalReplication

/// Makes sure that the slot still has everything that the target lacks, before anything is read from it.
struct SlotClaim {
  let slot: SlotName
  let feedback: Feedback
  var direction = Direction.forward

  /// - Throws: `MigrationError` when the slot is gone, lost, foreign, or ahead of what was confirmed by us.
  func verify(on source: Connection) async throws {
    let action = "resuming from replication slot \(slot)"
    let rows = try await source.query(
      """
      SELECT plugin, database = pg_catalog.current_database() AS is_here, wal_status, confirmed_flush_lsn,
        active_pid
      FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
      """, [slot.description], doing: action, within: .seconds(15))
    let begin =
      "Changes are missing that nobody can send again: "
      + (direction == .forward
        ? "abort this migration and begin a new one."
        : "there is no way back any more. Run replicate finish.")
    guard let row = rows.first else {
      throw MigrationError(
        .failed, doing: action, reason: "the slot does not exist any more",
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
    guard let confirmed = LSN(try row.text("confirmed_flush_lsn")), confirmed <= feedback.confirmableLSN
    else {
      throw MigrationError(
        .failed, doing: action,
        reason: "it was confirmed up to \(try row.text("confirmed_flush_lsn")), "
          + "the \(direction.to) stands at \(feedback.confirmableLSN): somebody else has read from it",
        remedy: begin)
    }
    // Whoever reads from it now is an engine's walsender that was left behind: we hold the lock that admits
    // one.
    if let pid = try row.optional("active_pid") {
      try await source.query(
        "SELECT pg_catalog.pg_terminate_backend($1::integer)", [pid],
        doing: "ending the session that still holds replication slot \(slot)", within: .seconds(15))
    }
  }
}
