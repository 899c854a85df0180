import LibPQ

extension Preflight {
  /// Tables that inherit, and have own columns before columns that their parents got later: pg_dump can only
  /// create the inherited ones first.
  enum ColumnOrders {
    struct Table: Sendable, Equatable {
      var name: RelationName
      /// Quoted, in the source's order.
      var columns: [String]
      /// OIDs, in the order of inheritance.
      var parents: [UInt32]
      /// Columns of other tables that hold values of its row type.
      var users: [String] = []
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      guard !context.isResuming else { return [] }
      let excluded = Set(context.options.excluded)
      let tables = try await read(context.source)
      let moved = tables.filter { oid, table in
        !excluded.contains(table.name) && order(of: oid, tables) != table.columns
      }
      var found: [Table] = []
      for (oid, table) in moved {
        var table = table
        table.users = try await users(of: oid, on: context.source).filter { !excluded.contains($0.table) }
          .map(\.column)
        found.append(table)
      }
      return found.sorted { $0.name < $1.name }.map(judge)
    }

    /// The order once pg_dump has created the table.
    static func order(of oid: UInt32, _ tables: [UInt32: Table]) -> [String] {
      guard let table = tables[oid] else { return [] }
      var order: [String] = []
      for column in table.parents.flatMap({ Self.order(of: $0, tables) }) + table.columns
      where table.columns.contains(column) && !order.contains(column) {
        order.append(column)
      }
      return order
    }

    static func judge(_ table: Table) -> Finding {
      let quoted = SQL.literal("column order of table \(table.name.schema).\(table.name.name)")
      let why =
        "Its columns will be in another order on the target: it inherits, and got columns of its parent "
        + "after its own, while pg_dump creates those first. "
      guard table.users.isEmpty else {
        return Finding(
          .blocker, check: "column_order", object: "table \(table.name)",
          why: why + "Values of its row type would be read in the wrong order: "
            + table.users.joined(separator: ", ") + ".",
          remedy: "Recreate the table on the source, with the inherited columns first, or exclude what "
            + "holds its values with --exclude-table.")
      }
      return Finding(
        .warning, check: "column_order", object: "table \(table.name)",
        why: why + "What reads SELECT * by position, or inserts without a list of columns, would take one "
          + "for the other, so no cutover begins unless that is accepted.",
        remedy: "Recreate the table on the source, with the inherited columns first, or make sure that "
          + "nothing depends on the order and give cutover --accept-difference \(quoted).")
    }

    /// All that inherit or are inherited from, except partitions, which are created with all their columns.
    private static func read(_ source: Connection) async throws -> [UInt32: Table] {
      let rows = try await source.ask(
        """
        SELECT c.oid, n.nspname, c.relname,
          (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), e'\\n' ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
          (SELECT pg_catalog.string_agg(i.inhparent::text, ' ' ORDER BY i.inhseqno)
            FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition) AS parents
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE \(Catalog.isUserTable) AND c.relkind = 'r' AND NOT c.relispartition
          AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
        """, about: "tables that inherit")
      return Dictionary(
        try rows.map { row in
          (
            try row.integer("oid", as: UInt32.self),
            Table(
              name: RelationName(schema: try row.text("nspname"), name: try row.text("relname")),
              columns: (try row.optional("columns") ?? "").split(separator: "\n").map(String.init),
              parents: (try row.optional("parents") ?? "").split(separator: " ").compactMap { UInt32($0) })
          )
        }
      ) { first, _ in first }
    }

    private static func users(
      of oid: UInt32, on source: Connection
    ) async throws -> [(table: RelationName, column: String)] {
      let rows = try await source.ask(
        """
        WITH RECURSIVE t AS (
          SELECT c.reltype AS type FROM pg_catalog.pg_class c WHERE c.oid = $1::oid
          UNION SELECT d.oid FROM t JOIN pg_catalog.pg_type d ON t.type IN (d.typelem, d.typbasetype)
              OR d.typrelid IN (SELECT a.attrelid FROM pg_catalog.pg_attribute a WHERE a.atttypid = t.type)
                AND d.typrelid <> 0)
        SELECT n.nspname, c.relname, pg_catalog.format('%I.%I.%I', n.nspname, c.relname, a.attname) AS name
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE \(Catalog.isUserTable) AND a.attnum > 0 AND NOT a.attisdropped
          AND a.atttypid IN (SELECT type FROM t)
        ORDER BY 3
        """, [String(oid)], about: "columns of a table's row type")
      return try rows.map { row in
        (
          RelationName(schema: try row.text("nspname"), name: try row.text("relname")),
          try row.text("name")
        )
      }
    }
  }
}
