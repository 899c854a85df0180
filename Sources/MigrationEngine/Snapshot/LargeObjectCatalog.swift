import LibPQ

/// What the servers know about their large objects.
enum LargeObjectCatalog {
  static func read(from connection: Connection) async throws -> [LargeObject] {
    let rows = try await connection.query(
      """
      SELECT m.oid, o.rolname AS owner, CASE WHEN m.lomacl IS NOT NULL THEN
        pg_catalog.format('REVOKE ALL ON LARGE OBJECT %s FROM %I', m.oid, o.rolname)
        || coalesce((SELECT pg_catalog.string_agg(
            pg_catalog.format(';GRANT %s ON LARGE OBJECT %s TO %s%s', a.privilege_type, m.oid,
              CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END),
            '' ORDER BY a.ordinality)
          FROM pg_catalog.aclexplode(m.lomacl) WITH ORDINALITY a
            LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
          ), '') END AS grants
      FROM pg_catalog.pg_largeobject_metadata m JOIN pg_catalog.pg_roles o ON o.oid = m.lomowner
      ORDER BY m.oid
      """, doing: "listing the large objects")
    return try rows.map {
      LargeObject(
        oid: try $0.integer("oid", as: UInt32.self), owner: try $0.text("owner"),
        grants: try $0.optional("grants"))
    }
  }

  /// The objects in `oids` (an SQL array), with their sizes. Each is closed before the next is opened: a
  /// transaction can have only a few open.
  static func sizes(of oids: String) -> String {
    """
    SELECT c.object, c.size FROM (
      SELECT b.object, b.fd, pg_catalog.lo_lseek64(b.fd, 0, 2) AS size FROM (
        SELECT a.object, pg_catalog.lo_open(a.object, 262144) AS fd
        FROM pg_catalog.unnest(\(oids)) AS a (object) OFFSET 0) AS b OFFSET 0) AS c
    WHERE pg_catalog.lo_close(c.fd) = 0 OFFSET 0
    """
  }

  // MARK: What has changed

  /// The oldest transaction that the snapshot of `connection` does not see as finished. Not the snapshot
  /// itself: it does not list writing subtransactions.
  static func horizon(of connection: Connection) async throws -> String {
    let rows = try await connection.query(
      "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) AS horizon",
      doing: "reading the snapshot's horizon")
    return try rows.first?.text("horizon") ?? "0"
  }

  /// Objects whose content may differ between the ends; nil: any.
  static func changed(
    since horizon: String?, _ source: Connection, _ target: Connection
  ) async throws -> Set<UInt32>? {
    guard let horizon else { return nil }
    let mayRead = try await source.query(
      "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') AS it_may",
      doing: "asking who may read large objects")
    if try mayRead.first?.bool("it_may") == true {
      return try await written(since: horizon, on: source)
    }
    async let here = digests(on: source)
    async let there = digests(on: target)
    let (left, right) = try await (here, there)
    return Set(left.filter { right[$0.key] != $0.value }.keys)
  }

  /// Only a superuser may read the pages themselves. Their xmin has 32 bits; an old one may look new, and is
  /// then copied for nothing.
  private static func written(since horizon: String, on source: Connection) async throws -> Set<UInt32> {
    let rows = try await source.query(
      """
      SELECT DISTINCT l.loid FROM pg_catalog.pg_largeobject l,
        (SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::numeric AS next) AS s,
        LATERAL (SELECT pg_catalog.div(s.next, 4294967296) * 4294967296 + l.xmin::text::numeric AS xid) AS w
      WHERE CASE WHEN w.xid >= s.next THEN w.xid - 4294967296 ELSE w.xid END >= $1::text::numeric
      """, [horizon], doing: "looking for large objects that were written")
    return Set(try rows.map { try $0.integer("loid", as: UInt32.self) })
  }

  private static func digests(on connection: Connection) async throws -> [UInt32: String] {
    let all = "(SELECT pg_catalog.array_agg(oid) FROM pg_catalog.pg_largeobject_metadata)"
    let rows = try await connection.query(
      """
      SELECT o.object, o.size::text || coalesce((SELECT pg_catalog.string_agg(
          pg_catalog.md5(pg_catalog.lo_get(o.object, p.at, 1048576)), '' ORDER BY p.at)
        FROM pg_catalog.generate_series(0, o.size - 1, 1048576) AS p (at)), '') AS digest
      FROM (\(sizes(of: all))) AS o
      """, doing: "comparing large objects")
    var digests: [UInt32: String] = [:]
    for row in rows { digests[try row.integer("object", as: UInt32.self)] = try row.text("digest") }
    return digests
  }

  // MARK: Comments

  static func copyComments(_ source: Connection, _ target: Connection) async throws {
    let wanted = try await comments(on: source)
    let present = try await comments(on: target)
    let statements = Set(wanted.keys).union(present.keys).sorted()
      .filter { wanted[$0] != present[$0] }
      .map { "COMMENT ON LARGE OBJECT \($0) IS \(wanted[$0].map(SQL.literal) ?? "NULL")" }
    for batch in statements.batches(of: LargeObjectPlan.batchSize) {
      try await target.query(batch.joined(separator: ";\n"), doing: "commenting on large objects")
    }
  }

  private static func comments(on connection: Connection) async throws -> [UInt32: String] {
    let rows = try await connection.query(
      """
      SELECT d.objoid, d.description
      FROM pg_catalog.pg_description d JOIN pg_catalog.pg_largeobject_metadata m ON m.oid = d.objoid
      WHERE d.classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass
      """, doing: "reading the comments on large objects")
    var comments: [UInt32: String] = [:]
    for row in rows { comments[try row.integer("objoid", as: UInt32.self)] = try row.text("description") }
    return comments
  }
}
