import LibPQ
package import LogicalReplication

/// What is stored of one relation.
package struct StoredRelation: Sendable {
  package var sourceOID: UInt32
  package var name: RelationName
  /// The LSN from which on its changes apply; nil until it is copied.
  package var snapshotLSN: LSN?
  package var bytesTotal: Int64
  package var bytes: Int64
  package var rows: Int64
}

/// What came over of one relation.
package struct CopiedRelation: Sendable {
  package var sourceOID: UInt32
  package var bytes: Int64
  package var rows: Int64

  package init(sourceOID: UInt32, bytes: Int64, rows: Int64) {
    self.sourceOID = sourceOID
    self.bytes = bytes
    self.rows = rows
  }
}

/// Where the stream stands.
package struct StoredProgress: Sendable {
  /// The end of the last transaction that is in the target; only a commit moves it.
  package var appliedLSN: LSN
  /// What may have been confirmed to the source beyond it, when there was nothing to apply.
  package var confirmedLSN: LSN
  package var transactions: Int64
  package var changes: Int64
}

extension StateStore {
  package func register(_ relations: [Relation]) async throws {
    try await connection.query(
      """
      INSERT INTO replicate.relation (source_oid, schema_name, relation_name, bytes_total)
      SELECT * FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[]),
        pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::bigint[])) AS r
      ON CONFLICT (source_oid) DO NOTHING
      """,
      [
        SQL.array(relations.map { "\($0.oid)" }), SQL.array(relations.map(\.name.schema)),
        SQL.array(relations.map(\.name.name)), SQL.array(relations.map { "\($0.bytes)" }),
      ], doing: "storing the list of tables", within: Self.limit)
  }

  package func relations() async throws -> [StoredRelation] {
    let rows = try await connection.query(
      "SELECT * FROM replicate.relation ORDER BY bytes_total DESC, schema_name, relation_name",
      doing: "reading the list of tables", within: Self.limit)
    return try rows.map { row in
      StoredRelation(
        sourceOID: try row.integer("source_oid", as: UInt32.self),
        name: RelationName(schema: try row.text("schema_name"), name: try row.text("relation_name")),
        snapshotLSN: try row.optional("snapshot_lsn").flatMap(LSN.init),
        bytesTotal: try row.integer("bytes_total", as: Int64.self),
        bytes: try row.integer("bytes", as: Int64.self),
        rows: try row.integer("rows", as: Int64.self))
    }
  }

  /// Relations that were created on the source during the migration and of which not all is on the target
  /// yet, partitioned and unlogged ones among them.
  package func joining() async throws -> Set<UInt32> {
    let rows = try await connection.query(
      "SELECT source_oid FROM replicate.joining", doing: "reading which tables join", within: Self.limit)
    return Set(try rows.map { try $0.integer("source_oid", as: UInt32.self) })
  }

  /// Before anything of them is on the target.
  package func noteJoining(_ relations: [Relation]) async throws {
    try await connection.query(
      "INSERT INTO replicate.joining SELECT pg_catalog.unnest($1::oid[]) ON CONFLICT DO NOTHING",
      [SQL.array(relations.map { "\($0.oid)" })], doing: "storing which tables join", within: Self.limit)
  }

  /// All that belongs to them is on the target.
  package func noteJoined() async throws {
    try await connection.query(
      "DELETE FROM replicate.joining", doing: "storing that new tables have joined", within: Self.limit)
  }

  /// Relations that neither end has any more.
  package func forget(_ sourceOIDs: [UInt32]) async throws {
    try await connection.query(
      "DELETE FROM replicate.relation WHERE source_oid = ANY ($1::oid[])",
      [SQL.array(sourceOIDs.map(String.init))], doing: "forgetting tables that were dropped",
      within: Self.limit)
  }

  /// Marks relations as copied. Runs on the connection that copies them, in the same transaction as their
  /// rows, thus under the search path of the database's users.
  package func markCopied(_ copied: [CopiedRelation], at snapshotLSN: LSN) async throws {
    let marked = try await connection.query(
      """
      UPDATE replicate.relation r SET snapshot_lsn = $1, bytes = c.bytes, rows = c.rows
      FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.oid[]), pg_catalog.unnest($3::pg_catalog.int8[]),
        pg_catalog.unnest($4::pg_catalog.int8[])) AS c (oid, bytes, rows)
      WHERE r.source_oid OPERATOR(pg_catalog.=) c.oid
      """,
      [
        snapshotLSN.description, SQL.array(copied.map { "\($0.sourceOID)" }),
        SQL.array(copied.map { "\($0.bytes)" }), SQL.array(copied.map { "\($0.rows)" }),
      ], doing: "marking tables as copied", within: Self.limit)
    guard marked.affected == copied.count else {
      throw MigrationError(
        .failed, doing: "marking tables as copied",
        reason: "replicate.relation has no row for a table of the source",
        remedy: "Schema replicate of the target was changed: abort this migration and begin a new one.")
    }
  }

  /// The source, and then the target, has given a relation another name.
  package func rename(_ sourceOID: UInt32, to name: RelationName) async throws {
    try await connection.query(
      "UPDATE replicate.relation SET schema_name = $2, relation_name = $3 WHERE source_oid = $1",
      [String(sourceOID), name.schema, name.name], doing: "storing the new name of table \(name)",
      within: Self.limit)
  }

  package func progress() async throws -> StoredProgress? { try await progress(locking: "") }

  /// Where the stream stands once no session is about to move it.
  package func settledProgress() async throws -> StoredProgress? {
    try await progress(locking: " FOR UPDATE OF p")
  }

  private func progress(locking: String) async throws -> StoredProgress? {
    let rows = try await connection.query(
      "SELECT p.*, c.confirmed_lsn FROM replicate.progress p CROSS JOIN replicate.confirmation c\(locking)",
      doing: "reading the stream's progress", within: Self.limit)
    guard let row = rows.first else { return nil }
    guard let applied = LSN(try row.text("applied_lsn")), let confirmed = LSN(try row.text("confirmed_lsn"))
    else {
      throw MigrationError(
        .failed, doing: "reading the stream's progress", reason: "replicate.progress holds no usable LSN")
    }
    return StoredProgress(
      appliedLSN: applied, confirmedLSN: confirmed,
      transactions: try row.integer("transactions", as: Int64.self),
      changes: try row.integer("changes", as: Int64.self))
  }

  /// Stores where a slot that was just made begins.
  package func beginProgress(at consistentPoint: LSN) async throws {
    try await connection.transaction(doing: "storing the slot's beginning") { connection in
      for (table, column) in [("progress", "applied_lsn"), ("confirmation", "confirmed_lsn")] {
        try await connection.query(
          "INSERT INTO replicate.\(table) (\(column)) VALUES ($1)", [consistentPoint.description],
          doing: "storing the slot's beginning", within: Self.limit)
      }
    }
  }

  /// Stores what is about to be confirmed, so that a slot ahead of `appliedLSN` can be told from one that
  /// somebody else advanced.
  package func store(confirmedLSN: LSN) async throws {
    try await connection.query(
      "UPDATE replicate.confirmation SET confirmed_lsn = greatest(confirmed_lsn, $1)",
      [confirmedLSN.description],
      doing: "storing the LSN to confirm", within: .seconds(30))
  }
}
