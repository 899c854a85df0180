import LibPQ

/// A table whose columns are in another order on one end. Rows are matched by column names, but a value of
/// the table's row type, and `INSERT` without a column list, depend on the order.
struct ColumnOrder: Sendable, Equatable {
  var table: RelationName
  var source: [String]
  var target: [String]

  init(table: RelationName, source: [String], target: [String]) {
    (self.table, self.source, self.target) = (table, source, target)
  }

  static func differing(source: Connection, target: Connection) async throws -> [ColumnOrder] {
    async let here = read(source)
    async let there = read(target)
    let (left, right) = try await (here, there)
    return left.compactMap { table, columns in
      guard let others = right[table], others != columns, others.sorted() == columns.sorted() else {
        return nil
      }
      return ColumnOrder(table: table, source: columns, target: others)
    }.sorted { $0.table < $1.table }
  }

  private static func read(_ end: Connection) async throws -> [RelationName: [String]] {
    let rows = try await end.query(
      """
      SELECT n.nspname, c.relname,
        pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), e'\\n' ORDER BY a.attnum) AS columns
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE \(Catalog.isUserTable) GROUP BY 1, 2
      """, doing: "reading in which order the columns of the \(end.end)'s tables stand", within: .seconds(60))
    return Dictionary(
      try rows.map { row in
        (
          RelationName(schema: try row.text("nspname"), name: try row.text("relname")),
          try row.text("columns").split(separator: "\n").map(String.init)
        )
      }
    ) { first, _ in first }
  }
}
