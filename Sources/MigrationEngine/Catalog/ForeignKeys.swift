import LibPQ

enum ForeignKeys {
  /// Which other tables reference a table: without them the server refuses to TRUNCATE it, whatever the role
  /// of the session (manual, TRUNCATE).
  static func references(on connection: Connection) async throws -> [RelationName: Set<RelationName>] {
    let rows = try await connection.query(
      """
      SELECT DISTINCT n.nspname, c.relname, r_n.nspname AS by_schema, r.relname AS by_name
      FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_class c ON c.oid = k.confrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class r ON r.oid = k.conrelid
        JOIN pg_catalog.pg_namespace r_n ON r_n.oid = r.relnamespace
      WHERE k.contype = 'f' AND k.confrelid <> k.conrelid
      """, doing: "listing the tables of the \(connection.end) that foreign keys reference",
      within: .seconds(60))
    var references: [RelationName: Set<RelationName>] = [:]
    for row in rows {
      let table = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      references[table, default: []].insert(
        RelationName(schema: try row.text("by_schema"), name: try row.text("by_name")))
    }
    return references
  }

  static func referencedTables(on connection: Connection) async throws -> Set<RelationName> {
    Set(try await references(on: connection).keys)
  }
}
