import LibPQ

/// The sequences of an end that received rows, but no sequence states: those of columns are set past the
/// values that the columns have.
enum ColumnSequences {
  private struct Use: Sendable {
    var sequence: String
    var table: String
    var column: String
    var increment: Int64
  }

  /// - Returns: sequences that no column's default uses, so that their position is not known.
  @discardableResult
  static func raise(on end: Connection) async throws -> [String] {
    let action = "setting the \(end.end)'s sequences past the values of their columns"
    let rows = try await end.query(
      """
      SELECT pg_catalog.format('%I.%I', n.nspname, q.relname) AS sequence, s.seqincrement,
        CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', m.nspname, c.relname) END AS relation,
        pg_catalog.quote_ident(a.attname) AS column_name
      FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class q ON q.oid = s.seqrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = q.relnamespace
        LEFT JOIN (
          SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
            FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
              AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0
              AND d.deptype IN ('a', 'i')
          UNION SELECT d.refobjid, f.adrelid, f.adnum
            FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
            WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
              AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass) u ON u.sequence = s.seqrelid
        LEFT JOIN (pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
          JOIN pg_catalog.pg_namespace m ON m.oid = c.relnamespace)
          ON a.attrelid = u.relation AND a.attnum = u.number
            AND a.atttypid IN ('int2'::pg_catalog.regtype, 'int4'::pg_catalog.regtype,
              'int8'::pg_catalog.regtype, 'pg_catalog.numeric'::pg_catalog.regtype)
      WHERE q.relpersistence <> 't' AND n.nspname !~ '^pg_'
        AND n.nspname NOT IN ('information_schema', 'replicate')
      ORDER BY 1
      """, doing: action, within: .seconds(60))
    var used: Set<String> = []
    var all: [String] = []
    for row in rows {
      let sequence = try row.text("sequence")
      if all.last != sequence { all.append(sequence) }
      guard let table = try row.optional("relation"), let column = try row.optional("column_name") else {
        continue
      }
      used.insert(sequence)
      try await raise(
        Use(
          sequence: sequence, table: table, column: column,
          increment: try row.integer("seqincrement", as: Int64.self)), on: end, doing: action)
    }
    return all.filter { !used.contains($0) }
  }

  private static func raise(_ use: Use, on end: Connection, doing action: String) async throws {
    let (extreme, isBeyond) = use.increment > 0 ? ("pg_catalog.max(", ">") : ("pg_catalog.min(", "<")
    do {
      try await end.query(
        """
        SELECT pg_catalog.setval(\(SQL.literal(use.sequence))::pg_catalog.regclass, t.value::bigint, true)
        FROM (SELECT \(extreme)\(use.column)) AS value FROM \(use.table)) t, \(use.sequence) s
        WHERE t.value \(isBeyond) s.last_value OR t.value = s.last_value AND NOT s.is_called
        """, doing: action, within: .seconds(600))
    } catch let error as PostgresError where error.sqlState?.errorClass == "22" {
      // A value that did not come from the sequence.
      throw error.during("\(action): sequence \(use.sequence) of \(use.table)")
    }
  }
}
