import LibPQ

/// Schema `replicate`; others may have a schema of that name.
enum OwnSchema {
  /// - Returns: false also when there is none.
  static func isOfOthers(on end: Connection) async throws -> Bool {
    let rows = try await end.query(
      """
      SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'replicate'
        AND coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') !~ 'of a migration by replicate;'
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'only_row'
          WHERE c.relnamespace = n.oid AND c.relname IN ('migration', 'progress'))
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p
          WHERE p.pronamespace = n.oid AND p.proname = 'fence' AND p.prosrc ~ 'jsonb_to_recordset')
      """, doing: "looking whose schema replicate of the \(end.end) is", within: .seconds(30))
    return !rows.isEmpty
  }
}
