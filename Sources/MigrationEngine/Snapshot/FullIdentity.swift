package import LibPQ
import LogicalReplication

/// REPLICA IDENTITY FULL for tables that have no identity of their own, as the user asked; what was before is
/// stored first, so that an abort can put it back.
package enum FullIdentity {
  /// - Parameter source: the end whose tables are published.
  package static func set(on relations: [Relation], source: Connection) async throws {
    for relation in relations where !relation.hasUsableIdentity {
      let action = "noting the replica identity of \(relation.name)"
      try await source.transaction(doing: action) { source in
        try await source.query(NotedRows.identity.lock, doing: action)
        let new = """
          \(NotedRows.identity.rows(where: "true")) || pg_catalog.jsonb_build_object(
            'relation', $1::oid, 'previous', $2::text)
          """
        try await source.query(
          """
          SELECT \(NotedRows.identity.replacement(by: new))
          WHERE NOT EXISTS (SELECT FROM replicate.identity() WHERE relation = $1::oid)
          """, [String(relation.oid), relation.replicaIdentity.clause], doing: action)
      }
      try await LockRetry.run(
        "ALTER TABLE \(relation.name) REPLICA IDENTITY FULL", on: source,
        doing: "setting REPLICA IDENTITY FULL on \(relation.name)", within: .seconds(30))
    }
  }

  /// The tables of an end that have it from us.
  package static func noted(on end: Connection) async throws -> [RelationName] {
    let action = "reading which tables of the \(end.end) were given REPLICA IDENTITY FULL"
    guard try await NotedRows.identity.exist(on: end, doing: action) else { return [] }
    let rows = try await end.query(
      """
      SELECT n.nspname, c.relname FROM replicate.identity() i
        JOIN pg_catalog.pg_class c ON c.oid = i.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      """, doing: action, within: .seconds(30))
    return try rows.map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) }
  }

  /// Puts back what was before, on the source or on the target, whose schema was dumped after the change.
  package static func restore(notedOn source: Connection, on end: Connection) async throws {
    let rows = try await source.query(
      """
      SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, i.previous
      FROM replicate.identity() i JOIN pg_catalog.pg_class c ON c.oid = i.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE i.previous IN ('DEFAULT', 'NOTHING')
      """, doing: "reading the replica identities to put back")
    for row in rows {
      let name = try row.text("name")
      try await LockRetry.run(
        "ALTER TABLE \(name) REPLICA IDENTITY \(try row.text("previous"))", on: end,
        doing: "putting back the replica identity of \(name) on the \(end.end)", within: .seconds(30))
    }
  }
}
