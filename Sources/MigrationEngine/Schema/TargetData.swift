import LibPQ

/// What a migration brought to the target. Its tables were not there before; of extensions, publications and
/// event triggers some may have been.
enum TargetData {
  /// What was there before a migration began, as text for `drop`.
  static func present(on target: Connection) async throws -> [String] {
    try await objects(on: target).compactMap(\.key)
  }

  /// Drops the user's event triggers, publications, extensions and schemas, and what is in schema public,
  /// which itself stays: it may belong to others. The sequences of identity columns go with their tables.
  /// - Parameter before: what `present` returned when the migration began; it stays.
  static func drop(on target: Connection, keeping before: [String]) async throws {
    let before = Set(before)
    for object in try await objects(on: target) where !(object.key.map(before.contains) ?? false) {
      try await target.query(object.drop, doing: "emptying the target", within: .seconds(600))
    }
    try await unlinkLargeObjects(on: target)
  }

  /// There were none before. Each needs an entry in the server's lock table, so few are dropped at a time.
  private static func unlinkLargeObjects(on target: Connection) async throws {
    while true {
      let rows = try await target.query(
        """
        SELECT pg_catalog.lo_unlink(l.oid)
        FROM (SELECT oid FROM pg_catalog.pg_largeobject_metadata LIMIT 200) AS l
        """, doing: "removing large objects", within: .seconds(60))
      if rows.isEmpty { return }
    }
  }

  private struct Object: Sendable {
    /// Nil for what cannot have been there before.
    var key: String?
    var drop: String
  }

  private static func objects(on target: Connection) async throws -> [Object] {
    let rows = try await target.query(
      """
      SELECT o.key, o.command FROM (
        SELECT 1 AS place, pg_catalog.format('event trigger %I', evtname) AS key,
            pg_catalog.format('DROP EVENT TRIGGER %I', evtname) AS command
          FROM pg_catalog.pg_event_trigger
        UNION ALL SELECT 2, pg_catalog.format('publication %I', pubname),
            pg_catalog.format('DROP PUBLICATION %I', pubname)
          FROM pg_catalog.pg_publication
        UNION ALL SELECT 3, pg_catalog.format('extension %I', extname),
            pg_catalog.format('DROP EXTENSION IF EXISTS %I CASCADE', extname)
          FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'
        UNION ALL SELECT 4, pg_catalog.format('schema %I', nspname),
            pg_catalog.format('DROP SCHEMA IF EXISTS %I CASCADE', nspname)
          FROM pg_catalog.pg_namespace
          WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'replicate', 'public')
        UNION ALL SELECT 5, NULL, pg_catalog.format('DROP %s IF EXISTS %s CASCADE',
            CASE i.type WHEN 'statistics object' THEN 'statistics' ELSE i.type END, i.identity)
          FROM pg_catalog.pg_depend d, LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS i
          WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.deptype = 'n'
            AND d.refobjid = pg_catalog.to_regnamespace('public')
            AND i.type NOT IN ('extension', 'default acl', 'publication namespace')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
              WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype IN ('e', 'i'))
      ) o ORDER BY o.place, o.command
      """, doing: "listing what the migration brought to the target", within: .seconds(60))
    return try rows.map { Object(key: try $0.optional("key"), drop: try $0.text("command")) }
  }
}
