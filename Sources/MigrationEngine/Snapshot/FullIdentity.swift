package import LibPQ
import LogicalReplication

/// REPLICA IDENTITY FULL for tables that have no identity of their own, as the user asked; what was before is
/// stored first, so that an abort can put it back.
package enum FullIdentity {
  /// - Parameter source: the end whose tables are published.
  package static func set(on relations: [Relation], source: Connection) async throws {
    for relation in relations where !relation.hasUsableIdentity {
      try await source.query(
        "INSERT INTO replicate.identity (relation, previous) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        [String(relation.oid), relation.replicaIdentity.clause],
        doing: "noting the replica identity of \(relation.name)")
      try await LockRetry.run(
        "ALTER TABLE \(relation.name) REPLICA IDENTITY FULL", on: source,
        doing: "setting REPLICA IDENTITY FULL on \(relation.name)", within: .seconds(30))
    }
  }

  /// Puts back what was before, on the source or on the target, whose schema was dumped after the change.
  package static func restore(notedOn source: Connection, on end: Connection) async throws {
    let rows = try await source.query(
      """
      SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, i.previous
      FROM replicate.identity i JOIN pg_catalog.pg_class c ON c.oid = i.relation
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
