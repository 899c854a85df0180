package import LibPQ
import LogicalReplication

/// What is in a database, read from the system catalogs (manual, chapter 53).
package struct Catalog: Sendable {
  /// The user's tables and partitioned tables, without those of extensions and of this program.
  package var relations: [Relation]

  /// - Parameters:
  ///   - connection: may be in a transaction, whose view is then read.
  ///   - measuring: also reads the sizes, for which the server examines every file; they are 0 otherwise.
  package static func read(from connection: Connection, measuring: Bool = true) async throws -> Catalog {
    let columns = try await readColumns(from: connection)
    let rows = try await connection.query(
      "\(relationsSQL(measuring: measuring)) ORDER BY n.nspname, c.relname", doing: "reading the catalog",
      within: .seconds(60))
    return Catalog(
      relations: try rows.map {
        try relation($0, columns: columns[try $0.integer("oid", as: UInt32.self)])
      })
  }

  /// Nil for a relation that is not among those read.
  package subscript(name: RelationName) -> Relation? { relations.first { $0.name == name } }

  /// Tables that hold rows themselves and are WAL-logged: those that are copied and streamed.
  var publishable: [Relation] { relations.filter { $0.kind == .table && !$0.isUnlogged } }

  /// Which `pg_class` rows are the user's tables; `c` and `n` are `pg_class` and `pg_namespace`.
  static let isUserTable = """
    c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u')
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
      WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
    """

  private static func relationsSQL(measuring: Bool) -> String {
    // A table dropped since the snapshot has no size.
    let bytes = measuring ? "coalesce(pg_catalog.pg_table_size(c.oid), 0)" : "0"
    let blocks =
      measuring
      ? """
      coalesce(pg_catalog.pg_relation_size(c.oid), 0)
        / pg_catalog.current_setting('block_size')::bigint
      """
      : "0"
    let isMostlyTOAST =
      measuring
      ? """
      c.reltoastrelid <> 0
        AND coalesce(pg_catalog.pg_relation_size(c.reltoastrelid) > pg_catalog.pg_relation_size(c.oid), false)
      """
      : "false"
    return """
      SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relpersistence = 'u' AS is_unlogged,
        c.relreplident, \(bytes) AS bytes, \(blocks) AS heap_blocks, \(isMostlyTOAST) AS is_mostly_toast,
        greatest(c.reltuples, 0)::bigint AS estimated_rows, c.reltype,
        pg_catalog.pg_get_userbyid(c.relowner) AS owner,
        CASE c.relreplident
          WHEN 'f' THEN true
          WHEN 'n' THEN false
          WHEN 'i' THEN EXISTS (SELECT FROM pg_catalog.pg_index i
            WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate)
          ELSE EXISTS (SELECT FROM pg_catalog.pg_index i
            WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
        END AS has_identity
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(isUserTable)
      """
  }

  private static func relation(_ row: Rows.Row, columns: TableColumns?) throws -> Relation {
    let oid = try row.integer("oid", as: UInt32.self)
    guard let kind = Relation.Kind(rawValue: try row.text("relkind")),
      let identity = ReplicaIdentity(catalog: try row.text("relreplident"))
    else {
      throw PostgresError(
        code: .unexpectedResult, action: "reading the catalog", message: "unknown kind of table in pg_class")
    }
    return Relation(
      oid: oid,
      name: RelationName(schema: try row.text("nspname"), name: try row.text("relname")),
      kind: kind,
      isPartition: try row.bool("relispartition"),
      isUnlogged: try row.bool("is_unlogged"),
      replicaIdentity: identity,
      hasUsableIdentity: try row.bool("has_identity"),
      bytes: try row.integer("bytes", as: Int64.self),
      heapBlocks: try row.integer("heap_blocks", as: Int64.self),
      isMostlyTOAST: try row.bool("is_mostly_toast"),
      estimatedRows: try row.integer("estimated_rows", as: Int64.self),
      columns: columns?.columns ?? [],
      rowTypeOID: try row.integer("reltype", as: UInt32.self), fileNode: columns?.fileNode ?? 0,
      owner: try row.text("owner"))
  }
}
