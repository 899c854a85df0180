import LibPQ
import LogicalReplication

/// The session that held an exported snapshot is gone, and the snapshot with it: the rest needs a new one.
struct SnapshotLoss: Error {
  let error: PostgresError
}

/// A snapshot that other sessions may use while its holder stays connected and quiet
/// (manual, section 55.4, CREATE_REPLICATION_SLOT).
struct ExportedSnapshot: Sendable {
  let name: String
  /// Transactions that committed before this are in the snapshot; all others come through the slot.
  let lsn: LSN
  let holder: Connection

  func release() async { await holder.close() }

  /// The direction of what is read under it.
  var direction: Direction { holder.end == Direction.back.from ? .back : .forward }

  /// Opens a transaction of `connection` that sees what the snapshot sees.
  func enter(_ connection: Connection) async throws {
    try await connection.query(
      "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", doing: "opening the snapshot's transaction")
    do {
      try await connection.query(
        "SET TRANSACTION SNAPSHOT \(SQL.literal(name))", doing: "taking over the exported snapshot")
    } catch let error as PostgresError where !error.isConnectionLoss {
      throw SnapshotLoss(error: error)
    }
    try await connection.query(Session.readingTablesOnly, doing: "opening the snapshot's transaction")
  }

  /// Runs `body`, which cannot distinguish the snapshot's loss from other failures. The holder is asked only
  /// after a failure: a statement on it ends the snapshot.
  /// - Throws: `SnapshotLoss` when the holder is gone, else what `body` threw.
  func explainingLoss<Value>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
  ) async throws -> Value {
    do {
      return try await body()
    } catch let failure {
      do {
        try await holder.query("SELECT", doing: "asking the snapshot's holder", within: .seconds(5))
      } catch let error as PostgresError where error.isConnectionLoss {
        throw SnapshotLoss(error: error)
      }
      throw failure
    }
  }

  /// A current snapshot, for what no slot sends; it has no LSN (manual, section 9.27.5 `pg_export_snapshot`).
  static func current(on source: ConnectionString, _ direction: Direction = .forward) async throws
    -> ExportedSnapshot
  {
    let holder = try await Session.open(source, end: direction.from, purpose: "snapshot")
    return try await current(in: holder, at: .zero)
  }

  /// The same in a given session, which is closed with it or on failure.
  /// - Parameter lsn: the position of the end, if known.
  static func current(in holder: Connection, at lsn: LSN) async throws -> ExportedSnapshot {
    do {
      try await holder.query(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", doing: "opening a snapshot's transaction")
      return try await export(from: holder, at: lsn)
    } catch {
      await holder.close()
      throw error
    }
  }

  /// The same snapshot, held by an ordinary session; releases the previous holder: a slot's snapshot keeps
  /// the slot, and with it WAL, for as long as it is needed.
  /// - Parameter holder: closed with the snapshot or on failure.
  func moved(to holder: Connection) async throws -> ExportedSnapshot {
    do {
      try await enter(holder)
      let moved = try await Self.export(from: holder, at: lsn)
      await release()
      return moved
    } catch {
      await holder.close()
      await release()
      throw error
    }
  }

  private static func export(from holder: Connection, at lsn: LSN) async throws -> ExportedSnapshot {
    let action = "exporting a snapshot"
    let rows = try await holder.query("SELECT pg_catalog.pg_export_snapshot() AS name", doing: action)
    guard let row = rows.first else {
      throw PostgresError(code: .unexpectedResult, action: action, message: "the server exported none")
    }
    return ExportedSnapshot(name: try row.text("name"), lsn: lsn, holder: holder)
  }
}
