import LibPQ
import LogicalReplication

/// What is stored on the target about the stream back to the source.
struct StoredReverseReplication: Sendable {
  /// On the target.
  var slot: String
  var publication: String
  /// The transaction on the target that noted that it had everything and was still closed: what commits there
  /// after it is its users'. As pgoutput numbers it; nil until the target opens.
  var openedXID: UInt32?
  /// Where that committed, as the stream tells it; nil until the stream has been asked.
  var openedLSN: LSN?
  /// The transaction on the target from which on large objects may have changed.
  var largeObjectsHorizon: String?
}

extension StateStore {
  func reverseReplication() async throws -> StoredReverseReplication? {
    let rows = try await connection.query(
      "SELECT * FROM replicate.way_back", doing: "reading the state of the way back", within: Self.limit)
    return try rows.first.map { row in
      StoredReverseReplication(
        slot: try row.text("slot"), publication: try row.text("publication"),
        openedXID: try row.optional("opened_xid").flatMap(UInt32.init),
        openedLSN: try row.optional("opened_lsn").flatMap(LSN.init),
        largeObjectsHorizon: try row.optional("large_objects_horizon"))
    }
  }

  /// Stored before anything of it is created.
  func beginReverseReplication(slot: String, publication: String) async throws {
    try await connection.query(
      "INSERT INTO replicate.way_back (slot, publication) VALUES ($1, $2)", [slot, publication],
      doing: "storing that a way back is made", within: Self.limit)
  }

  func forgetReverseReplication() async throws {
    try await connection.query(
      "DELETE FROM replicate.way_back", doing: "storing that there is no way back", within: Self.limit)
  }

  /// The target has everything and is about to open. The message makes pgoutput send this transaction: from
  /// PostgreSQL 15 on it leaves out those that change nothing which is published.
  func noteOpening() async throws {
    try await connection.query(
      """
      WITH message AS (SELECT pg_catalog.pg_logical_emit_message(true, $1, '') AS lsn)
      UPDATE replicate.way_back SET opened_lsn = NULL,
        opened_xid = CASE WHEN message.lsn IS NOT NULL THEN pg_catalog.txid_current() & 4294967295 END,
        large_objects_horizon = pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text
      FROM message
      """, [MessagePrefix.opening], doing: "storing that the target opens", within: Self.limit)
  }

  func store(openedLSN: LSN) async throws {
    try await connection.query(
      "UPDATE replicate.way_back SET opened_lsn = $1::pg_lsn", [openedLSN.description],
      doing: "storing where the target opened", within: Self.limit)
  }

  func store(reverseHorizon: String) async throws {
    try await connection.query(
      "UPDATE replicate.way_back SET large_objects_horizon = $1", [reverseHorizon],
      doing: "storing from where on large objects may have changed", within: Self.limit)
  }

  /// On the source: the tables for the position of the reverse stream.
  func createProgress() async throws {
    try await connection.query(
      "\(NotedRows.progress.creation);\n\(NotedRows.confirmation.creation)",
      doing: "making room for the position of the reverse stream", within: Self.limit)
  }

  // MARK: The end

  func requestFinish() async throws {
    try await connection.query(
      "UPDATE replicate.migration SET finish_requested = true", doing: "requesting the end of the way back",
      within: Self.limit)
  }

  func isFinishRequested() async throws -> Bool {
    let rows = try await connection.query(
      "SELECT finish_requested FROM replicate.migration", doing: "looking for a request to finish",
      within: Self.limit)
    return try rows.first?.bool("finish_requested") ?? false
  }

  /// Keeps only what `replicate report` shows.
  /// - Parameter machine: after the event that ended reverse replication, if there was any.
  func storeFinished(_ machine: PhaseMachine) async throws {
    try await connection.query(
      """
      DROP TABLE IF EXISTS replicate.progress, replicate.confirmation, replicate.way_back;
      DROP FUNCTION IF EXISTS replicate.identity(), replicate.held();
      UPDATE replicate.migration
        SET phase = \(SQL.literal(machine.phase.rawValue)), failure = NULL, finished = true
      """, doing: "storing that the migration is finished", within: Self.limit)
    try await note("finished")
  }
}
