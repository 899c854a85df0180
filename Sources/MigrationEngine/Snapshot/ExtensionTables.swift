import LibPQ
import LogicalReplication

/// Extension tables with rows of the user's: CREATE EXTENSION creates the table and the rows of the
/// extension's script; the user's rows are copied (manual, section 38.17.3 "Extension Configuration Tables").
/// They are in no publication and have no trigger of ours, so they are copied again after the fence, and
/// after the seal if they were written meanwhile.
struct ExtensionTables: Sendable {
  let source: ConnectionString
  let target: ConnectionString
  let excluded: Set<RelationName>
  let direction: Direction

  init(
    source: ConnectionString, target: ConnectionString, excluded: Set<RelationName>,
    direction: Direction = .forward
  ) {
    self.direction = direction
    self.source = source
    self.target = target
    self.excluded = excluded
  }

  /// - Parameters:
  ///   - observer: a session on the source.
  ///   - snapshot: the snapshot to read the rows under; a current one unless given.
  /// - Returns: how many tables had to be copied.
  @discardableResult
  func copy(
    observer: Connection, target connection: Connection, under snapshot: ExportedSnapshot? = nil
  ) async throws -> Int {
    var tables: [ConfigurationTable] = []
    for table in try await ConfigurationTable.read(from: observer) where !excluded.contains(table.name) {
      // Most have no rows of the user's, and not every role may write to an extension's table.
      async let here = Self.rows(table, on: observer)
      async let there = Self.rows(table, on: connection)
      if try await here != there { tables.append(table) }
    }
    guard !tables.isEmpty else { return 0 }
    let place = try await JobPlace.read(on: connection)
    if let snapshot {
      try await copy(tables, to: place, under: snapshot)
    } else {
      let snapshot = try await ExportedSnapshot.current(on: source, direction)
      try await finally(snapshot.release) { try await copy(tables, to: place, under: snapshot) }
    }
    return tables.count
  }

  private func copy(
    _ tables: [ConfigurationTable], to place: JobPlace, under snapshot: ExportedSnapshot
  ) async throws {
    // In the order of the extension's script: its tables may depend on each other.
    let batch = CopyBatch(
      pieces: tables.map { Self.piece($0, to: place) },
      clearing: tables.reversed().map { "DELETE FROM ONLY \($0.name) \($0.condition)" }
        .joined(separator: "; "))
    let copy = TableCopy(
      source: source, target: target, workers: 1, progress: CopyProgress(), isStreamed: false,
      areUsers: false)
    guard try await copy.copy(CopyPlan(batches: [batch]), under: snapshot).outdated.isEmpty else {
      throw MigrationError(
        .failed, doing: "copying the user's rows in tables of extensions",
        reason: "an extension's tables were redefined or rewritten on the \(direction.from) meanwhile",
        remedy: "Try again: a newer snapshot has them as they are now.")
    }
  }

  private static func piece(_ table: ConfigurationTable, to place: JobPlace) -> CopyPiece {
    let values = table.isOfJobs ? place.values(table.columns) : table.columns
    let list = table.columns.isEmpty ? "" : " (\(table.columns))"
    return CopyPiece(
      sourceOID: table.oid, name: table.name, bytes: 0,
      copyOut: "COPY (SELECT \(values) FROM ONLY \(table.name) \(table.condition)) TO STDOUT",
      copyIn: "COPY \(table.name)\(list) FROM STDIN")
  }

  /// A short digest of the user's rows, the same on both ends for the same rows.
  private static func rows(_ table: ConfigurationTable, on connection: Connection) async throws -> String {
    // Every version has this hash, of 32 bits only.
    let columns = table.isOfJobs ? JobPlace.withoutPlace(table.columns) : table.columns
    let row = "ROW(\(columns))::pg_catalog.text COLLATE pg_catalog.\"C\""
    do {
      return try await connection.query(
        """
        SELECT ROW(pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtext(\(row))),
          pg_catalog.sum(pg_catalog.hashtext('+' OPERATOR(pg_catalog.||) (\(row)))))::pg_catalog.text AS rows
        FROM ONLY \(table.name) \(table.condition)
        """, doing: "looking at the user's rows in \(table.name), a table of an extension",
        within: .seconds(60)
      ).first?.text("rows") ?? ""
    } catch let error as PostgresError where error.sqlState == .insufficientPrivilege {
      throw MigrationError(
        .failed, doing: "copying \(table.name), a table of an extension",
        reason: "the \(connection.end) refuses: \(error.message)",
        remedy: "See what replicate check says of it, or leave out its rows: --exclude-table "
          + "\(table.name.schema).\(table.name.name)")
    }
  }
}
