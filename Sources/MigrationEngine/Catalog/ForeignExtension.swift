import LibPQ

/// Extensions that belong to other roles than ours, as a provider's do.
enum ForeignExtension {
  /// What only those roles may change: comments, and the schemas made for them, as pg_dump names both.
  static func parts(on end: Connection) async throws -> Set<String> {
    let rows = try await end.query(
      """
      SELECT 'COMMENT' AS kind, 'EXTENSION ' AS before, e.extname AS name FROM pg_catalog.pg_extension e
      WHERE NOT pg_catalog.pg_has_role(e.extowner, 'USAGE')
      UNION ALL
      SELECT k.kind, k.before, n.nspname FROM pg_catalog.pg_namespace n,
        (VALUES ('SCHEMA', ''), ('COMMENT', 'SCHEMA ')) AS k (kind, before)
      WHERE NOT pg_catalog.pg_has_role(n.nspowner, 'USAGE')
        AND EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid)
      """, doing: "looking for extensions of others on the \(end.end)", within: .seconds(30))
    return Set(
      try rows.flatMap { row in
        let name = try row.text("name")
        let start = "\(try row.text("kind")) \(try row.optional("before") ?? "")"
        return ["\(start)\(name)", "\(start)\(SQL.identifier(name))"]
      })
  }
}
