import LibPQ

enum ForeignKeys {
  /// Tables that another one references: the server refuses to TRUNCATE them alone, whatever the role of the
  /// session (manual, TRUNCATE).
  static func referencedTables(on connection: Connection) async throws -> Set<RelationName> {
    let rows = try await connection.query(
      """
      SELECT DISTINCT n.nspname, c.relname FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_class c ON c.oid = k.confrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE k.contype = 'f' AND k.confrelid <> k.conrelid
      """, doing: "listing the tables of the \(connection.end) that foreign keys reference",
      within: .seconds(60))
    return Set(
      try rows.map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) })
  }
}
