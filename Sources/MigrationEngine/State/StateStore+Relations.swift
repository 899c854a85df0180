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
    try await connection.transaction(doing: "storing the list of tables") { connection in
      for relation in relations {
        try await connection.query(
          """
          INSERT INTO replicate.relation (source_oid, schema_name, relation_name, bytes_total)
          VALUES ($1, $2, $3, $4) ON CONFLICT (source_oid) DO NOTHING
          """,
          [String(relation.oid), relation.name.schema, relation.name.name, String(relation.bytes)],
          doing: "storing table \(relation.name)", within: Self.limit)
      }
    }
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

  /// Marks a relation as copied. Runs on the connection that copies it, in the same transaction as its rows.
  package func markCopied(_ oid: UInt32, at snapshotLSN: LSN, bytes: Int64, rows: Int64) async throws {
    let marked = try await connection.query(
      "UPDATE replicate.relation SET snapshot_lsn = $2, bytes = $3, rows = $4 WHERE source_oid = $1",
      [String(oid), snapshotLSN.description, String(bytes), String(rows)], doing: "marking a table as copied",
      within: Self.limit)
    guard marked.affected == 1 else {
      throw MigrationError(
        .failed, doing: "marking a table as copied",
        reason: "replicate.relation has no row for the source's table \(oid)",
        remedy: "Schema replicate of the target was changed: abort this migration and begin a new one.")
    }
  }

  package func progress() async throws -> StoredProgress? {
    let rows = try await connection.query(
      "SELECT p.*, c.confirmed_lsn FROM replicate.progress p CROSS JOIN replicate.confirmation c",
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
