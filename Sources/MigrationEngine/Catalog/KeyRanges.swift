import LibPQ

/// Bounds that cut a table into ranges of its primary key's first column with about as many rows each.
///
/// Only of types whose order is the same on every machine: an index over text may be in an order that its
/// server does not have any more (after an upgrade of the C library), and a range read by it would lack rows.
struct KeyRanges: Sendable, Equatable {
  /// Quoted where it must be.
  var column: String
  var type: String
  /// As text, ascending, none twice.
  var bounds: [String]

  /// int2, int4, int8, oid, numeric, float8, date, timestamp, timestamptz, uuid.
  private static let types = [21, 23, 20, 26, 1700, 701, 1082, 1114, 1184, 2950]
  private static let integers: Set<UInt32> = [20, 21, 23]

  /// - Parameter tables: by their OIDs.
  /// - Returns: none of a table that has no such key, or of which too little is known.
  static func read(_ tables: [UInt32], from connection: Connection) async throws -> [UInt32: KeyRanges] {
    guard !tables.isEmpty else { return [:] }
    let action = "looking for ranges of keys of large tables"
    let rows = try await connection.query(
      """
      SELECT i.indrelid, pg_catalog.quote_ident(a.attname) AS column, a.atttypid,
        pg_catalog.format_type(a.atttypid, NULL) AS type,
        pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
        pg_catalog.array_to_string(s.histogram_bounds::text::text[], ',') AS bounds
      FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
          AND s.attname = a.attname AND NOT s.inherited
      WHERE i.indisprimary AND i.indisvalid AND i.indclass[0] < 16384 AND i.indrelid = ANY ($1::oid[])
        AND a.atttypid = ANY ('{\(types.map(String.init).joined(separator: ","))}'::oid[])
      """, [SQL.array(tables.map { "\($0)" })], doing: action, within: .seconds(60))
    var ranges: [UInt32: KeyRanges] = [:]
    for row in rows {
      var bounds = try row.optional("bounds") ?? ""
      if bounds.isEmpty, integers.contains(try row.integer("atttypid", as: UInt32.self)) {
        bounds = try await evenBounds(of: row.text("column"), of: row.text("name"), connection, action)
      }
      let list = bounds.split(separator: ",").map(String.init)
      let distinct = list.indices.filter { $0 == 0 || list[$0] != list[$0 - 1] }.map { list[$0] }
      guard !distinct.isEmpty else { continue }
      ranges[try row.integer("indrelid", as: UInt32.self)] = KeyRanges(
        column: try row.text("column"), type: try row.text("type"), bounds: distinct)
    }
    return ranges
  }

  /// Of a table that was never analyzed: as if its keys had no gaps. The index has both ends at hand.
  private static func evenBounds(
    of column: String, of table: String, _ connection: Connection, _ action: String
  ) async throws -> String {
    let rows = try await connection.query(
      """
      SELECT pg_catalog.array_to_string(ARRAY(
        SELECT (k.first + (k.last - k.first) * step / 100)::pg_catalog.int8
        FROM (SELECT pg_catalog.min(\(column))::pg_catalog.numeric AS first,
            pg_catalog.max(\(column))::pg_catalog.numeric AS last FROM ONLY \(table)) k,
          pg_catalog.generate_series(1, 99) AS step
        WHERE k.first IS NOT NULL ORDER BY 1), ',') AS bounds
      """, doing: action, within: .seconds(60))
    return try rows.first?.optional("bounds") ?? ""
  }

  /// In so many pieces the table can be cut.
  var pieces: Int { bounds.count + 1 }

  /// The rows of one piece, for WHERE. The first has no beginning and the last no end.
  /// - Parameter parts: at most `pieces`.
  func condition(_ number: Int, of parts: Int) -> String {
    func bound(_ part: Int) -> String { "\(SQL.literal(bounds[part * pieces / parts - 1]))::\(type)" }
    var conditions: [String] = []
    if number > 0 { conditions.append("\(column) OPERATOR(pg_catalog.>=) \(bound(number))") }
    if number + 1 < parts { conditions.append("\(column) OPERATOR(pg_catalog.<) \(bound(number + 1))") }
    return conditions.joined(separator: " AND ")
  }
}
