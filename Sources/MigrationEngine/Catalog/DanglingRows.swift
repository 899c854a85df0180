import LibPQ
import LogicalReplication

/// Rows that violate a foreign key of the source: written under the replica role or with triggers disabled.
/// No server creates the key over them (manual, ALTER TABLE … ADD CONSTRAINT).
struct DanglingRows: Sendable {
  /// The name in pg_restore's list, by which a schema difference is accepted.
  let key: String
  let child: String
  let childName: RelationName
  private let parent: String
  private let columns: String
  private let referenced: String
  /// The child, for reading its own rows.
  private let scanned: String
  private let isSet: String
  private let equality: String
  /// The child's primary key: its columns, the sort order, and its values as texts.
  private let primaryKey: (columns: String, order: String, texts: String)?
  /// No user-defined operator is called.
  let isBuiltIn: Bool

  /// - Parameter key: its OID in the source's `pg_constraint`; nil for all validated keys.
  static func read(_ key: UInt32?, from source: Connection, doing action: String) async throws -> [Self] {
    let which =
      key == nil ? "k.convalidated AND k.conparentid = 0 AND n.nspname !~ '^pg_'" : "k.oid = $1::oid"
    let rows = try await source.query(
      """
      SELECT k.conname AS name, n.nspname AS schema, c.relname AS table,
        pg_catalog.format('%I.%I', n.nspname, c.relname) AS child, c.relkind = 'p' AS is_parted,
        pg_catalog.format('%I.%I', p_n.nspname, p.relname) AS parent,
        pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.place) AS columns,
        pg_catalog.string_agg(pg_catalog.quote_ident(r.attname), ', ' ORDER BY u.place) AS referenced,
        pg_catalog.string_agg(pg_catalog.format('c.%I IS NOT NULL', a.attname),
          CASE k.confmatchtype WHEN 'f' THEN ' OR ' ELSE ' AND ' END ORDER BY u.place) AS is_set,
        pg_catalog.string_agg(pg_catalog.format('p.%I OPERATOR(%I.%s) c.%I', r.attname, o_n.nspname,
          o.oprname, a.attname), ' AND ' ORDER BY u.place) AS equality,
        pg_catalog.bool_and(o.oid < 16384) AS is_built_in,
        pg_catalog.min(identity.columns) AS key_columns, pg_catalog.min(identity.qualified) AS key_order,
        pg_catalog.min(identity.texts) AS key_texts
      FROM pg_catalog.pg_constraint k
        CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey),
          pg_catalog.unnest(k.conpfeqop)) WITH ORDINALITY AS u (own, other, operator, place)
        LEFT JOIN LATERAL (\(Self.primaryKey)) AS identity ON true
        JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class p ON p.oid = k.confrelid
        JOIN pg_catalog.pg_namespace p_n ON p_n.oid = p.relnamespace
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own
        JOIN pg_catalog.pg_attribute r ON r.attrelid = k.confrelid AND r.attnum = u.other
        JOIN pg_catalog.pg_operator o ON o.oid = u.operator
        JOIN pg_catalog.pg_namespace o_n ON o_n.oid = o.oprnamespace
      WHERE k.contype = 'f' AND \(which)
        -- Of time: rows of the parent cover a row of the child together (18).
        AND pg_catalog.to_jsonb(k) ->> 'conperiod' IS DISTINCT FROM 'true'
      GROUP BY k.oid, k.conname, k.confmatchtype, n.nspname, c.relname, p_n.nspname, p.relname, c.relkind
      ORDER BY n.nspname, c.relname, k.conname
      """, key.map { ["\($0)"] } ?? [], doing: action, within: .seconds(30))
    return try rows.map(Self.init)
  }

  /// Each value in its type's output, truncated, as wherever a key is shown.
  private static let primaryKey = """
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(own.attname), ', ' ORDER BY i_u.place) AS columns,
      pg_catalog.string_agg(pg_catalog.format('c.%I', own.attname), ', ' ORDER BY i_u.place) AS qualified,
      pg_catalog.string_agg(pg_catalog.format('pg_catalog.left(pg_catalog.format(%L, c.%I), 100)', '%s',
        own.attname), ', ' ORDER BY i_u.place) AS texts
    FROM pg_catalog.pg_index i
      CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[])
        WITH ORDINALITY AS i_u (number, place)
      JOIN pg_catalog.pg_attribute own ON own.attrelid = i.indrelid AND own.attnum = i_u.number
    WHERE i.indrelid = k.conrelid AND i.indisprimary
    """

  private init(_ row: Rows.Row) throws {
    childName = RelationName(schema: try row.text("schema"), name: try row.text("table"))
    child = try row.text("child")
    key = "fk constraint \(try row.text("name")) on \(child)"
    parent = try row.text("parent")
    columns = try row.text("columns")
    referenced = try row.text("referenced")
    scanned = try row.bool("is_parted") ? child : "ONLY \(child)"
    isSet = "(\(try row.text("is_set")))"
    equality = try row.text("equality")
    isBuiltIn = try row.bool("is_built_in")
    primaryKey =
      if let columns = try row.optional("key_columns") {
        (columns, try row.text("key_order"), try row.text("key_texts"))
      } else {
        nil
      }
  }

  private func missing(in rows: String) -> String {
    "FROM \(rows) AS c WHERE \(isSet) AND NOT EXISTS (SELECT FROM \(parent) AS p WHERE \(equality))"
  }

  /// A statement that lists them.
  var listing: String { "SELECT c.* \(missing(in: scanned));" }

  /// How many rows' keys are reported.
  private static let keyLimit = 10

  /// Counts them, and names some by their primary keys.
  /// - Parameter sample: how many of the child's rows are examined; nil: all.
  /// - Returns: in words; nil when there are none.
  func describe(
    on end: Connection, sample: Int? = nil, doing action: String, within limit: Duration
  ) async throws -> String? {
    let rows = missing(in: sample.map { "(SELECT * FROM \(scanned) LIMIT \($0))" } ?? scanned)
    let counted = try await end.query(
      "SELECT pg_catalog.count(*) AS rows \(rows)", doing: action, within: limit)
    let count = try counted.first?.integer("rows", as: Int64.self) ?? 0
    guard count > 0 else { return nil }
    let words = """
      \(count == 1 ? "1 row" : "\(count) rows") of \(child) (\(columns)) reference no row of \
      \(parent) (\(referenced))
      """
    guard let primaryKey else { return words }
    let keys = try await end.query(
      """
      SELECT pg_catalog.concat_ws(', ', \(primaryKey.texts)) AS key \(rows)
      ORDER BY \(primaryKey.order) LIMIT \(Self.keyLimit)
      """, doing: action, within: limit)
    let more = count > keys.count ? ", …" : ""
    return """
      \(words), by key (\(primaryKey.columns)): \
      \(try keys.map { "(\(try $0.text("key")))" }.joined(separator: ", "))\(more)
      """
  }
}
