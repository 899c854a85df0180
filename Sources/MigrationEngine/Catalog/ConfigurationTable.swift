import LibPQ

/// An extension's table that may hold rows of the user's (manual, section 38.17.3).
struct ConfigurationTable: Sendable {
  var oid: UInt32
  var name: RelationName
  /// The condition for the user's rows, from the extension's script: `WHERE …`, or empty for all.
  var condition: String
  /// Quoted, with commas; empty when there are none.
  var columns: String

  /// The extension's name.
  var owner: String

  /// Whether the server runs what stands in it: then it must not do so on both ends at once.
  var isOfJobs: Bool { owner == "pg_cron" && Self.isOfJobs(name) }

  static func isOfJobs(_ name: RelationName) -> Bool { name.schema == "cron" && name.name == "job" }

  /// Columns of a table of jobs that say where and whether each runs: on each end, what holds there.
  static let ofPlace: Set = ["active", "nodeport", "database"]

  /// Which `pg_class` rows are such tables; `c` is `pg_class`.
  static let isOne = """
    EXISTS (SELECT FROM pg_catalog.pg_extension x WHERE c.oid = ANY (x.extconfig))
    """

  static func read(from connection: Connection) async throws -> [ConfigurationTable] {
    let rows = try await connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, e.extname, coalesce(x.condition, '') AS condition,
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
        condition: try row.text("condition"), columns: try row.optional("columns") ?? "",
        owner: try row.text("extname"))
    }
  }

  /// A condition for sequences of extensions that only give numbers to tables that stay behind; `c` is their
  /// row of `pg_class`.
  static func isSequence(of excluded: Set<RelationName>) -> String {
    guard !excluded.isEmpty else { return "false" }
    let names = excluded.sorted().map { "(\(SQL.literal($0.schema)), \(SQL.literal($0.name)))" }
    return """
      EXISTS (SELECT FROM pg_catalog.pg_extension x WHERE c.oid = ANY (x.extconfig))
        AND EXISTS (SELECT FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
          JOIN pg_catalog.pg_class t ON t.oid = f.adrelid
          JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
        WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
          AND (tn.nspname, t.relname) IN (\(names.joined(separator: ", "))))
      """
  }
}
