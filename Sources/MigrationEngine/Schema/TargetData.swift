package import LibPQ

/// What a migration brought to the target: it was empty before, so this is all that is not PostgreSQL's own.
package enum TargetData {
  /// Drops the user's schemas, extensions, event triggers and publications; leaves an empty schema public, as
  /// a new database has it.
  package static func drop(on target: Connection) async throws {
    for statement in try await statements(on: target) {
      try await target.query(statement, doing: "emptying the target", within: .seconds(600))
    }
  }

  private static func statements(on target: Connection) async throws -> [String] {
    let rows = try await target.query(
      """
      SELECT statement FROM (
        SELECT 1 AS place, pg_catalog.format('DROP EVENT TRIGGER %I', evtname) AS statement
          FROM pg_catalog.pg_event_trigger
        UNION ALL SELECT 2, pg_catalog.format('DROP PUBLICATION %I', pubname) FROM pg_catalog.pg_publication
        UNION ALL SELECT 3, pg_catalog.format('DROP EXTENSION IF EXISTS %I CASCADE', extname)
          FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'
        UNION ALL SELECT 4, pg_catalog.format('DROP SCHEMA IF EXISTS %I CASCADE', nspname)
          FROM pg_catalog.pg_namespace
          WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'replicate')
        UNION ALL SELECT 5, 'CREATE SCHEMA public'
        UNION ALL SELECT 6, CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 150000
          THEN 'ALTER SCHEMA public OWNER TO pg_database_owner'
            ELSE 'GRANT CREATE ON SCHEMA public TO PUBLIC' END
        UNION ALL SELECT 7, 'GRANT USAGE ON SCHEMA public TO PUBLIC'
        UNION ALL SELECT 8, 'COMMENT ON SCHEMA public IS ''standard public schema'''
      ) s ORDER BY place, statement
      """, doing: "listing what the migration brought to the target", within: .seconds(60))
    return try rows.map { try $0.text("statement") }
  }
}
