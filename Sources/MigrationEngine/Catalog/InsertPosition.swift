import LibPQ
import LogicalReplication

/// Where the next record of an end's WAL goes: all that was committed lies before it.
enum InsertPosition {
  static func read(on connection: Connection) async throws -> LSN {
    let action = "asking the \(connection.end) for its position"
    // Providers withhold the function. A message of ours that nobody waits for tells where it ends.
    let position =
      try await SystemPrivileges.mayCall("pg_current_wal_insert_lsn()", on: connection)
      ? "pg_catalog.pg_current_wal_insert_lsn()"
      : "pg_catalog.pg_logical_emit_message(false, \(SQL.literal(MessagePrefix.position)), '')"
    let rows = try await connection.query("SELECT \(position) AS lsn", doing: action, within: .seconds(15))
    guard let row = rows.first, let lsn = LSN(try row.text("lsn")) else {
      throw PostgresError(code: .unexpectedResult, action: action, message: "the server gave no position")
    }
    return lsn
  }
}
