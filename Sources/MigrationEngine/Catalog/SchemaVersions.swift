import LibPQ
import LogicalReplication

/// Detects within milliseconds whether a schema has changed: for each catalog, the row count and a sum over
/// the row versions. It may report a change that pg_dump would not see.
struct SchemaVersions: Sendable, Equatable {
  private var source: [String: String] = [:]
  private var target: [String: String] = [:]

  /// - Parameter publications: those of the migration itself, which are left out.
  static func read(
    source: Connection, target: Connection, without publications: Set<String>
  ) async throws -> SchemaVersions {
    async let here = read(source, publications)
    async let there = read(target, publications)
    var versions = SchemaVersions()
    (versions.source, versions.target) = try await (here, there)
    return versions
  }

  private static func read(
    _ connection: Connection, _ publications: Set<String>
  ) async throws -> [String: String] {
    let version = try await connection.serverVersion()
    let queries = catalogs.filter { $0.since <= version }.map(\.query)
    let rows = try await connection.query(
      "\(relations)\(queries.joined(separator: "\nUNION ALL "))", [SQL.array(publications.sorted())],
      doing: "looking whether the \(connection.end)'s schema has changed", within: .seconds(60))
    return Dictionary(
      try rows.map { (try $0.text("catalog"), "\(try $0.text("rows")) \(try $0.text("sum"))") }
    ) { first, _ in first }
  }

  /// Neither a session's temporary objects nor what belongs to the migration.
  private static let relations = """
    WITH p AS (SELECT oid FROM pg_catalog.pg_publication WHERE pubname::text <> ALL ($1::text[])),
      n AS (SELECT oid FROM pg_catalog.pg_namespace
        WHERE nspname !~ '^pg_(toast|temp_|toast_temp_)' AND nspname <> 'replicate'),
      r AS (SELECT c.oid FROM pg_catalog.pg_class c JOIN n ON n.oid = c.relnamespace
        WHERE c.relpersistence <> 't')

    """

  private static let database =
    "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"

  private struct CatalogRows {
    var name: String
    /// The condition for rows; `x` is the catalog.
    var condition = "true"
    /// What distinguishes one version of a row from the next, as text.
    var version = "x.xmin::text || x.ctid::text"
    var since = 0

    var query: String {
      """
      SELECT '\(name)' AS catalog, pg_catalog.count(*) AS rows,
        COALESCE(pg_catalog.sum(pg_catalog.hashtext(\(version))), 0) AS sum
      FROM pg_catalog.\(name) x WHERE \(condition)
      """
    }
  }

  /// For tables and the database only the definitions, not what the server keeps in the same rows: sizes,
  /// files, the results of VACUUM, and whether there are triggers, such as the fence's.
  private static let catalogs: [CatalogRows] =
    [
      CatalogRows(
        name: "pg_class", condition: "x.oid IN (SELECT oid FROM r)",
        version: columns([
          "oid", "relname", "relnamespace", "relowner", "relam", "reltablespace", "relpersistence", "relkind",
          "relnatts", "relchecks", "relrowsecurity", "relforcerowsecurity", "relispartition", "relacl",
          "reloptions",
        ])),
      CatalogRows(
        name: "pg_database", condition: "x.oid = \(database)",
        version: columns(["datdba", "datconnlimit", "datacl"])),
      CatalogRows(
        name: "pg_trigger",
        condition: """
          NOT x.tgisinternal AND x.tgrelid IN (SELECT oid FROM r)
            AND x.tgfoid IN (SELECT f.oid FROM pg_catalog.pg_proc f JOIN n ON n.oid = f.pronamespace)
          """),
      CatalogRows(
        name: "pg_constraint",
        condition: """
          CASE x.conrelid WHEN 0 THEN x.connamespace IN (SELECT oid FROM n)
            ELSE x.conrelid IN (SELECT oid FROM r) END
          """),
      CatalogRows(name: "pg_db_role_setting", condition: "x.setdatabase = \(database)"),
      CatalogRows(
        name: "pg_shdescription",
        condition: "x.objoid = \(database) AND x.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass"),
      CatalogRows(name: "pg_publication", condition: "x.oid IN (SELECT oid FROM p)"),
      CatalogRows(name: "pg_publication_rel", condition: "x.prpubid IN (SELECT oid FROM p)"),
      CatalogRows(name: "pg_publication_namespace", since: 150_000),
      // The migration's noted rows are in comments.
      CatalogRows(
        name: "pg_description",
        condition: """
          x.classoid <> 'pg_catalog.pg_proc'::pg_catalog.regclass
            OR x.objoid NOT IN (SELECT f.oid FROM pg_catalog.pg_proc f
              WHERE f.pronamespace = pg_catalog.to_regnamespace('replicate'))
          """),
      CatalogRows(name: "pg_type", condition: "x.typnamespace IN (SELECT oid FROM n)"),
      CatalogRows(name: "pg_proc", condition: "x.pronamespace IN (SELECT oid FROM n)"),
      CatalogRows(name: "pg_namespace", condition: "x.oid IN (SELECT oid FROM n)"),
    ]
    + [
      ("pg_attribute", "attrelid"), ("pg_attrdef", "adrelid"), ("pg_index", "indrelid"),
      ("pg_rewrite", "ev_class"), ("pg_policy", "polrelid"), ("pg_statistic_ext", "stxrelid"),
      ("pg_sequence", "seqrelid"), ("pg_inherits", "inhrelid"), ("pg_partitioned_table", "partrelid"),
      ("pg_foreign_table", "ftrelid"),
    ].map { CatalogRows(name: $0, condition: "x.\($1) IN (SELECT oid FROM r)") }
    + [
      "pg_am", "pg_amop", "pg_amproc", "pg_aggregate", "pg_cast", "pg_collation", "pg_conversion",
      "pg_default_acl", "pg_enum", "pg_event_trigger", "pg_extension",
      "pg_foreign_data_wrapper", "pg_foreign_server", "pg_language", "pg_opclass", "pg_operator",
      "pg_opfamily", "pg_range", "pg_seclabel", "pg_transform", "pg_ts_config", "pg_ts_config_map",
      "pg_ts_dict", "pg_ts_parser", "pg_ts_template",
    ].map { CatalogRows(name: $0) }

  private static func columns(_ names: [String]) -> String {
    "pg_catalog.concat_ws(' ', \(names.map { "COALESCE(x.\($0)::text, '-')" }.joined(separator: ", ")))"
  }
}
