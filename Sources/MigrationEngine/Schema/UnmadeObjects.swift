import LibPQ

/// What both ends know about objects that the target refused.
struct UnmadeObjects {
  let source: Connection
  let target: Connection

  private static let action = "looking at what of the schema the target has refused"

  // MARK: What they are

  func describe(_ refused: [RefusedEntry]) async throws -> [UnmadeObject] {
    var unmade: [UnmadeObject] = []
    for one in refused {
      var object = UnmadeObject(
        classOID: one.entry.id.classOID, oid: one.entry.id.oid, entry: String(one.entry.description),
        name: one.name, reason: one.error.words, remedy: one.remedy)
      if object.oid != 0 { try await addTables(&object) }
      if object.isForeignKey, one.error.isRefusalOfData { try await addRows(&object) }
      unmade.append(object)
    }
    // A comment or an attachment has no row of its own, and is refused because another object is missing.
    let tables = Array(Set(unmade.flatMap(\.tables))).sorted()
    for index in unmade.indices where unmade[index].oid == 0 { unmade[index].tables = tables }
    return unmade
  }

  /// For every catalog whose objects belong to tables.
  private static let owners = """
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid AS class, i.indexrelid AS oid, i.indrelid AS rel,
      NULL::oid AS other, i.indexrelid AS index, false AS is_key FROM pg_catalog.pg_index i
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.oid, NULL, NULL, false
      FROM pg_catalog.pg_class c WHERE c.relkind NOT IN ('i', 'I')
    UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, k.conrelid,
      NULLIF(k.confrelid, 0), NULLIF(k.conindid, 0), k.contype = 'f' FROM pg_catalog.pg_constraint k
    UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, t.tgrelid, NULL, NULL, false
      FROM pg_catalog.pg_trigger t
    UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid, r.ev_class, NULL, NULL, false
      FROM pg_catalog.pg_rewrite r
    UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, p.polrelid, NULL, NULL, false
      FROM pg_catalog.pg_policy p
    UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid, s.stxrelid, NULL, NULL, false
      FROM pg_catalog.pg_statistic_ext s
    """

  private func addTables(_ object: inout UnmadeObject) async throws {
    let rows = try await source.query(
      """
      SELECT o.rel, o.other, o.is_key, c.relkind IN ('r', 'p', 'm', 'f', 'v') AS is_relation,
        c.relkind = 'r' AND NOT o.is_key AND (i.indisreplident OR i.indisprimary AND c.relreplident = 'd')
          AS is_identity
      FROM (\(Self.owners)) o JOIN pg_catalog.pg_class c ON c.oid = o.rel
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = o.index
      WHERE o.class = $1::oid AND o.oid = $2::oid
      """, ["\(object.classOID)", "\(object.oid)"], doing: Self.action, within: .seconds(60))
    guard let row = rows.first, try row.bool("is_relation") else { return }
    object.tables = [
      try row.integer("rel", as: UInt32.self), try row.optional("other").flatMap(UInt32.init) ?? 0,
    ].filter { $0 != 0 }
    object.isForeignKey = try row.bool("is_key")
    if try row.optional("is_identity") == "t" { object.identifies = object.tables.first }
  }

  // MARK: Foreign keys

  /// Searched on the target, which nobody else reads.
  private func addRows(_ key: inout UnmadeObject) async throws {
    let read = try await DanglingRows.read(key.oid, from: source, doing: Self.action)
    guard let rows = read.first else { return }
    key.listing = rows.listing
    var found: String?
    do {
      found = try await rows.describe(on: target, doing: Self.action, within: .seconds(60))
    } catch let error as PostgresError where error.code == .server || error.code == .timedOut {
      // The keys are only a help.
      if error.isConnectionLoss, error.code != .timedOut { throw error }
    }
    key.reason = "\(found ?? "rows of \(rows.child) reference none"): \(key.reason)"
  }

  /// - Returns: the statement that creates it for new rows only; nil when the source no longer has it.
  func notValid(_ key: UnmadeObject) async throws -> String? {
    let rows = try await source.query(
      """
      SELECT pg_catalog.format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s%s', n.nspname, c.relname, k.conname,
        pg_catalog.pg_get_constraintdef(k.oid), CASE WHEN k.convalidated THEN ' NOT VALID' ELSE '' END)
        AS statement
      FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE k.oid = $1::oid
      """, ["\(key.oid)"], doing: Self.action, within: .seconds(30))
    return try rows.first?.text("statement")
  }

  // MARK: Whether they are still wanted

  /// - Returns: those that the source still has, and their tables.
  func present(_ unmade: [UnmadeObject]) async throws -> ([UnmadeObject], [RelationName]) {
    var present: [UnmadeObject] = []
    for object in unmade {
      // What has no row of its own is searched for in the dump.
      guard object.oid != 0 else {
        present.append(object)
        continue
      }
      let catalog = try await source.query(
        "SELECT $1::oid::pg_catalog.regclass::pg_catalog.text AS name", ["\(object.classOID)"],
        doing: Self.action, within: .seconds(15))
      guard let name = try catalog.first?.text("name") else { continue }
      let rows = try await source.query(
        "SELECT FROM pg_catalog.\(SQL.identifier(name)) WHERE oid = $1::oid", ["\(object.oid)"],
        doing: Self.action, within: .seconds(15))
      if !rows.isEmpty { present.append(object) }
    }
    let oids = Set(present.flatMap { $0.tables.prefix(1) })
    let rows = try await source.query(
      """
      SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1::oid[])
      """, [SQL.array(oids.map(String.init))], doing: Self.action, within: .seconds(15))
    return (
      present,
      try rows.map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) }
    )
  }
}
