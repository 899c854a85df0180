import LibPQ
import LogicalReplication

/// Versions that change when rows change other than one by one: by TRUNCATE, which older snapshots do not see
/// (manual, section 13.6), and by an ALTER TABLE that rewrites rows or adds a column to old ones. Without
/// unlogged tables, which are not streamed.
struct TableVersions: Sendable, Equatable {
  private var source: [RelationName: String] = [:]
  private var target: [RelationName: String] = [:]

  static func read(source: ConnectionString, target: ConnectionString) async throws -> TableVersions {
    let source = try await Session.open(source, end: "source", purpose: "verify")
    let target = try await Session.open(target, end: "target", purpose: "verify")
    return try await closing(source, target) { try await read(source: source, target: target) }
  }

  static func read(source: Connection, target: Connection) async throws -> TableVersions {
    async let here = read(source)
    async let there = read(target)
    var versions = TableVersions()
    (versions.source, versions.target) = try await (here, there)
    return versions
  }

  /// Tables that have changed on either end.
  func changed(since earlier: TableVersions) -> Set<RelationName> {
    Set(source.keys).union(target.keys).union(earlier.source.keys).union(earlier.target.keys).filter {
      source[$0] != earlier.source[$0] || target[$0] != earlier.target[$0]
    }
  }

  private static func read(_ connection: Connection) async throws -> [RelationName: String] {
    let rows = try await connection.query(
      """
      SELECT n.nspname, c.relname, pg_catalog.concat_ws(' ', c.oid, c.relfilenode, a.columns) AS version
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN (
          SELECT attrelid, pg_catalog.string_agg(
            pg_catalog.concat_ws(':', attnum, atttypid, attname), ' ' ORDER BY attnum) AS columns
          -- Below are the system's own.
          FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid >= 16384 GROUP BY attrelid
        ) AS a ON a.attrelid = c.oid
      WHERE \(Catalog.isUserTable) AND c.relpersistence = 'p'
      """, doing: "reading which tables of the \(connection.end) were written anew", within: .seconds(60),
      isPrepared: true)
    return Dictionary(
      try rows.map {
        (RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")), try $0.text("version"))
      }, uniquingKeysWith: { first, _ in first })
  }
}

/// What must be the same in a snapshot and now, for a COPY under it to have the table's rows: a table
/// rewritten since looks empty to it, and a name may now belong to another table or column (manual, section
/// 13.6).
enum TableVersion {
  /// - Parameter connection: in a transaction, its view is read; otherwise the current state.
  /// - Returns: a text per table, by OID; none for a missing table.
  static func read(_ oids: [UInt32], from connection: Connection) async throws -> [UInt32: String] {
    let rows = try await connection.query(
      """
      SELECT c.oid, pg_catalog.concat_ws(' ', c.relfilenode, c.relnamespace, c.relname, c.relkind,
        pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.xmin), ' ' ORDER BY a.attnum))
        AS version
      FROM pg_catalog.pg_class c
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
      WHERE c.oid = ANY ($1::oid[])
      GROUP BY c.oid, c.relfilenode, c.relnamespace, c.relname, c.relkind
      """, [SQL.array(oids.map { "\($0)" })],
      doing: "reading which tables of the \(connection.end) were defined or written anew",
      within: .seconds(60), isPrepared: true)
    return Dictionary(
      try rows.map { (try $0.integer("oid", as: UInt32.self), try $0.text("version")) }
    ) { first, _ in first }
  }
}
