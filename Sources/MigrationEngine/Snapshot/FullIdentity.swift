import LibPQ
import LogicalReplication

/// REPLICA IDENTITY FULL for tables without an identity, as the user asked; the previous one is stored first,
/// so that an abort can restore it.
enum FullIdentity {
  /// - Parameter source: the end whose tables are published.
  static func set(on relations: [Relation], source: Connection) async throws {
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
      try await LockRetry.execute(
        "ALTER TABLE \(relation.name) REPLICA IDENTITY FULL", on: source,
        doing: "setting REPLICA IDENTITY FULL on \(relation.name)", within: .seconds(30))
    }
  }

  /// The user's publications come with the schema, and would make the target refuse what the stream applies
  /// to tables without an identity there. They have FULL while something is applied.
  static func setWherePublished(on target: Connection) async throws {
    let rows = try await target.query(
      "SELECT DISTINCT c.oid \(published)", [ownName],
      doing: "looking for tables that the target's publications would refuse to change",
      within: .seconds(60))
    guard !rows.isEmpty else { return }
    let oids = Set(try rows.map { try $0.integer("oid", as: UInt32.self) })
    try await SourceState(target).createTables()
    try await set(
      on: try await Catalog.read(from: target, measuring: false).relations.filter {
        oids.contains($0.oid) && $0.kind == .table && !$0.isUnlogged
      }, source: target)
  }

  /// The publication of reverse replication, which sets the identity of its tables itself.
  private static let ownName = "replicate_back"

  /// Tables that a publication besides `$1` publishes changes of.
  private static let published = """
    FROM pg_catalog.pg_publication p
      JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
      JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    WHERE (p.pubupdate OR p.pubdelete) AND p.pubname <> $1
    """

  /// The tables of an end that we have given it.
  static func noted(on end: Connection) async throws -> [RelationName] {
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

  /// What is recorded on an end that is open and no longer receives changes by replication.
  static func owed(on end: Connection) async throws -> [LateChange] {
    guard !(try await noted(on: end)).isEmpty else { return [] }
    let rows = try await end.query(
      """
      SELECT n.nspname, c.relname, i.previous FROM replicate.identity() i
        JOIN pg_catalog.pg_class c ON c.oid = i.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE i.previous IN ('DEFAULT', 'NOTHING') AND c.relreplident = 'f'
      """, doing: "reading the replica identities to restore", within: .seconds(30))
    return try rows.map { row in
      let name = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      let previous = try row.text("previous")
      return LateChange(
        name, doing: "restoring the replica identity of \(name)",
        "ALTER TABLE \(name) REPLICA IDENTITY \(previous)")
    }
  }

  /// Restores the previous identity, on the source or on the target, whose schema was dumped after the
  /// change.
  /// - Parameter isStreamed: changes are still applied to this end, and the user's publications must not
  ///   refuse them.
  static func restore(
    notedOn source: Connection, on end: Connection, isStreamed: Bool = false
  ) async throws {
    let kept =
      isStreamed
      ? "AND c.oid NOT IN (SELECT c.oid \(published.replacing("$1", with: SQL.literal(ownName))))" : ""
    let rows = try await source.query(
      """
      SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, i.previous
      FROM replicate.identity() i JOIN pg_catalog.pg_class c ON c.oid = i.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE i.previous IN ('DEFAULT', 'NOTHING') \(kept)
      """, doing: "reading the replica identities to restore")
    for row in rows {
      let name = try row.text("name")
      try await LockRetry.execute(
        "ALTER TABLE \(name) REPLICA IDENTITY \(try row.text("previous"))", on: end,
        doing: "restoring the replica identity of \(name) on the \(end.end)", within: .seconds(30))
    }
  }
}
