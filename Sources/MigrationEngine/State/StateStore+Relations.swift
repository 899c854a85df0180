import LibPQ
import LogicalReplication

/// What is stored about one relation.
struct StoredRelation: Sendable {
  var sourceOID: UInt32
  var name: RelationName
  /// The LSN from which its changes apply; nil until it is copied, and while it must be copied again.
  var snapshotLSN: LSN?
  /// Its definition when it was last copied; nil before.
  var lineage: TableLineage?
  /// The file of the target's table since then.
  var targetFile: UInt32?
  var bytesTotal: Int64
  var bytes: Int64
  var rows: Int64
}

/// What was copied of one relation.
struct CopiedRelation: Sendable {
  var sourceOID: UInt32
  var bytes: Int64
  var rows: Int64
  /// Its definition on both ends meanwhile.
  var lineage: TableLineage?

  init(sourceOID: UInt32, bytes: Int64, rows: Int64) {
    self.sourceOID = sourceOID
    self.bytes = bytes
    self.rows = rows
  }
}

extension StateStore {
  func register(_ relations: [Relation]) async throws {
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

  func relations() async throws -> [StoredRelation] {
    let rows = try await connection.query(
      "SELECT * FROM replicate.relation ORDER BY bytes_total DESC, schema_name, relation_name",
      doing: "reading the list of tables", within: Self.limit)
    return try rows.map { row in
      StoredRelation(
        sourceOID: try row.integer("source_oid", as: UInt32.self),
        name: RelationName(schema: try row.text("schema_name"), name: try row.text("relation_name")),
        snapshotLSN: try row.optional("snapshot_lsn").flatMap(LSN.init),
        lineage: try row.optional("lineage").flatMap { try Self.decode(TableLineage?.self, $0) },
        targetFile: try row.optional("target_file").flatMap(UInt32.init),
        bytesTotal: try row.integer("bytes_total", as: Int64.self),
        bytes: try row.integer("bytes", as: Int64.self),
        rows: try row.integer("rows", as: Int64.self))
    }
  }

  /// Relations created on the source during the migration and not completely on the target yet, including
  /// partitioned and unlogged ones.
  func joining() async throws -> Set<UInt32> {
    let rows = try await connection.query(
      "SELECT source_oid FROM replicate.joining", doing: "reading which tables join", within: Self.limit)
    return Set(try rows.map { try $0.integer("source_oid", as: UInt32.self) })
  }

  /// Before anything of them is on the target.
  func noteJoining(_ relations: [Relation]) async throws {
    try await connection.query(
      "INSERT INTO replicate.joining SELECT pg_catalog.unnest($1::oid[]) ON CONFLICT DO NOTHING",
      [SQL.array(relations.map { "\($0.oid)" })], doing: "storing which tables join", within: Self.limit)
  }

  /// Everything that belongs to them is on the target.
  func noteJoined() async throws {
    try await connection.query(
      "DELETE FROM replicate.joining", doing: "storing that new tables have joined", within: Self.limit)
  }

  /// Relations that no longer exist on either end.
  func forget(_ sourceOIDs: [UInt32]) async throws {
    try await connection.query(
      "DELETE FROM replicate.relation WHERE source_oid = ANY ($1::oid[])",
      [SQL.array(sourceOIDs.map(String.init))], doing: "forgetting tables that were dropped",
      within: Self.limit)
  }

  /// Marks relations as copied. Runs on the connection that copies them, in the same transaction as their
  /// rows, so under the search path of the database's users.
  func markCopied(_ copied: [CopiedRelation], at snapshotLSN: LSN) async throws {
    let marked = try await connection.query(
      """
      UPDATE replicate.relation r SET snapshot_lsn = $1, bytes = c.bytes, rows = c.rows,
        lineage = c.lineage, target_file = pg_catalog.pg_relation_filenode(c.target)
      FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.oid[]), pg_catalog.unnest($3::pg_catalog.int8[]),
        pg_catalog.unnest($4::pg_catalog.int8[]), pg_catalog.unnest($5::pg_catalog.text[]),
        pg_catalog.unnest($6::pg_catalog.oid[])) AS c (oid, bytes, rows, lineage, target)
      WHERE r.source_oid OPERATOR(pg_catalog.=) c.oid
      """,
      [
        snapshotLSN.description, SQL.array(copied.map { "\($0.sourceOID)" }),
        SQL.array(copied.map { "\($0.bytes)" }), SQL.array(copied.map { "\($0.rows)" }),
        try SQL.array(copied.map { try Self.encode($0.lineage) }),
        SQL.array(copied.map { "\($0.lineage?.targetOID ?? 0)" }),
      ], doing: "marking tables as copied", within: Self.limit)
    guard marked.affected == copied.count else {
      throw MigrationError(
        .failed, doing: "marking tables as copied",
        reason: "replicate.relation has no row for a table of the source",
        remedy: "Schema replicate of the target was changed: abort this migration and begin a new one.")
    }
  }

  /// A relation's current definition on both ends, with the same rows.
  func store(_ lineage: TableLineage, of relation: Relation, targetFile: UInt32) async throws {
    try await connection.query(
      """
      UPDATE replicate.relation SET schema_name = $2, relation_name = $3, lineage = $4, target_file = $5
      WHERE source_oid = $1
      """,
      [
        "\(relation.oid)", relation.name.schema, relation.name.name, try Self.encode(lineage),
        "\(targetFile)",
      ], doing: "storing what became of table \(relation.name)", within: Self.limit)
  }

  /// Its rows are no longer the source's: its changes do not apply until it is copied again. It is emptied in
  /// the same commit, so that its definition can be changed whatever it contained.
  /// - Parameter table: on the target.
  func setAside(_ sourceOID: UInt32, _ table: RelationName) async throws {
    let isReferenced = try await ForeignKeys.referencedTables(on: connection).contains(table)
    try await LockRetry.execute(
      """
      SET LOCAL session_replication_role = replica;
      UPDATE replicate.relation SET snapshot_lsn = NULL WHERE source_oid = \(sourceOID);
      \(isReferenced ? "DELETE FROM" : "TRUNCATE") ONLY \(table)
      """, on: connection, doing: "emptying table \(table), which is to be copied again",
      within: nil, tryLimitMilliseconds: 1000)
  }
}
