package import LibPQ

/// Materialized views are derived data: the target computes them itself from what it has, and is then no
/// staler than the source, whose own views are as old as their last REFRESH.
package enum MaterializedViews {
  /// Refreshes on the target what has data on the source.
  /// - Parameter onlyOwn: leaves those alone whose owner's role ours is no member of.
  /// - Returns: those that were left alone.
  @discardableResult
  package static func refresh(
    source: Connection, target: Connection, onlyOwn: Bool = false
  ) async throws -> [RelationName] {
    let populated = Set(try await names("c.relispopulated", on: source))
    let foreign =
      onlyOwn
      ? Set(try await names("NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')", on: target)) : []
    // Creation order on the target is pg_restore's, thus one in which dependencies come first.
    let views = try await names("true", on: target).filter(populated.contains)
    for view in views where !foreign.contains(view) {
      try await target.query(
        "REFRESH MATERIALIZED VIEW \(view)", doing: "refreshing materialized view \(view)")
    }
    return views.filter(foreign.contains)
  }

  private static func names(_ condition: String, on connection: Connection) async throws -> [RelationName] {
    let rows = try await connection.query(
      """
      SELECT n.nspname, c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'm' AND n.nspname !~ '^pg_' AND \(condition) ORDER BY c.oid
      """, doing: "reading the materialized views", within: .seconds(60))
    return try rows.map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) }
  }
}
