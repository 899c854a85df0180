import LibPQ
import LogicalReplication

extension Catalog {
  /// The columns of a table, and its file at that moment.
  struct TableColumns {
    var fileNode: UInt32 = 0
    var columns: [Column] = []
  }

  /// The columns of all tables of the user's, by their tables' OIDs. With their file: only one statement that
  /// reads both shows the definition at the time of a rewrite.
  static func readColumns(from connection: Connection) async throws -> [UInt32: TableColumns] {
    let rows = try await connection.query(
      columnsSQL, doing: "reading the columns of all tables", within: .seconds(60))
    var tables: [UInt32: TableColumns] = [:]
    for row in rows {
      let table = try row.integer("attrelid", as: UInt32.self)
      tables[table, default: TableColumns()].columns.append(try column(row))
      tables[table]?.fileNode = try row.integer("relfilenode", as: UInt32.self)
    }
    return tables
  }

  private static let columnsSQL = """
    WITH RECURSIVE domain (oid, base) AS (
      SELECT oid, typbasetype FROM pg_catalog.pg_type WHERE typtype = 'd'
      UNION ALL
      SELECT d.oid, t.typbasetype FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.base
      WHERE t.typtype = 'd')
    SELECT a.attrelid, c.relfilenode, a.attname,
      pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.atttypid, y.typname,
      CASE w.typtype WHEN 'e' THEN 25 ELSE w.oid END AS wire_type,
      a.attidentity, a.attgenerated <> '' AS is_generated,
      a.attgenerated = 'v' AS is_virtual, d.oid IS NOT NULL AS is_domain,
      a.attnum, a.atttypmod, a.attnotnull, a.xmin AS revision,
      -- An array of one, whatever the type.
      (a.attmissingval::pg_catalog.text::pg_catalog.text[])[1] AS missing,
      CASE WHEN a.atthasdef THEN pg_catalog.pg_get_expr(f.adbin, f.adrelid) END AS expression,
      CASE WHEN a.attcollation NOT IN (0, y.typcollation) THEN (
        SELECT pg_catalog.format('%I.%I', s.nspname, l.collname)
        FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace s ON s.oid = l.collnamespace
        WHERE l.oid = a.attcollation) END AS collation,
      q.schema AS sequence_schema, q.name AS sequence_name, q.options AS sequence_options
    FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
      LEFT JOIN (SELECT d.oid, d.base FROM domain d
        JOIN pg_catalog.pg_type t ON t.oid = d.base AND t.typtype <> 'd') AS d ON d.oid = a.atttypid
      JOIN pg_catalog.pg_type w ON w.oid = coalesce(d.base, a.atttypid)
      LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum AND a.atthasdef
      LEFT JOIN LATERAL (
        SELECT k.nspname AS schema, r.relname AS name, pg_catalog.format(
          'AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s%s',
          pg_catalog.format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart,
          s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END) AS options
        FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_sequence s ON s.seqrelid = p.objid
          JOIN pg_catalog.pg_class r ON r.oid = p.objid
          JOIN pg_catalog.pg_namespace k ON k.oid = r.relnamespace
        WHERE p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.refobjid = a.attrelid
          AND p.refobjsubid = a.attnum AND p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND p.deptype = 'a'
        LIMIT 1) AS q ON a.atthasdef
    WHERE a.attnum > 0 AND NOT a.attisdropped AND \(isUserTable)
    ORDER BY a.attrelid, a.attnum
    """

  private static func column(_ row: Rows.Row) throws -> Column {
    var column = Column(
      name: try row.text("attname"), type: try row.text("type"),
      typeOID: try row.integer("atttypid", as: UInt32.self),
      wireTypeOID: try row.integer("wire_type", as: UInt32.self),
      identity: Column.Identity(rawValue: try row.text("attidentity")) ?? .none,
      isGenerated: try row.bool("is_generated"), isDomain: try row.bool("is_domain"))
    column.typeName = try row.text("typname")
    column.number = try row.integer("attnum")
    column.modifier = try row.integer("atttypmod", as: Int32.self)
    column.isVirtual = try row.bool("is_virtual")
    column.isNotNull = try row.bool("attnotnull")
    column.revision = try row.text("revision")
    column.missingValue = try row.optional("missing")
    column.expression = try row.optional("expression")
    column.collation = try row.optional("collation")
    if let schema = try row.optional("sequence_schema"), let name = try row.optional("sequence_name") {
      column.sequence = OwnedSequence(
        name: RelationName(schema: schema, name: name), options: try row.text("sequence_options"))
    }
    return column
  }
}
