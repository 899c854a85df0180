import LibPQ

/// An extension's table that may hold rows of the user's (manual, section 38.17.3).
struct ConfigurationTable: Sendable {
  var oid: UInt32
  var name: RelationName
  /// The condition for the user's rows, from the extension's script: `WHERE …`, or empty for all.
  var condition: String
  /// Quoted, with commas; empty when there are none.
  var columns: String

  /// Which `pg_class` rows are such tables; `c` is `pg_class`.
  static let isOne = """
    EXISTS (SELECT FROM pg_catalog.pg_extension x WHERE c.oid = ANY (x.extconfig))
    """

  static func read(from connection: Connection) async throws -> [ConfigurationTable] {
    let rows = try await connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, coalesce(x.condition, '') AS condition,
        (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
            AND NOT a.attisdropped AND a.attgenerated = '') AS columns
      FROM pg_catalog.pg_extension e,
        LATERAL ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition))
          WITH ORDINALITY AS x (oid, condition, place)
        JOIN pg_catalog.pg_class c ON c.oid = x.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' ORDER BY e.oid, x.place
      """, doing: "listing the configuration tables of extensions", within: .seconds(30))
    return try rows.map { row in
      ConfigurationTable(
        oid: try row.integer("oid", as: UInt32.self),
        name: RelationName(schema: try row.text("nspname"), name: try row.text("relname")),
        condition: try row.text("condition"), columns: try row.optional("columns") ?? "")
    }
  }
}
