/// Finds a row by all its columns, under REPLICA IDENTITY FULL on a table without a key.
///
/// Rows are equal when the server says so, not when their bytes are: NaN has many forms, and an array may be
/// stored in several ways. Where equal rows still differ, as `1.0` and `1.00` do, the source means the one
/// with the same bytes.
enum WholeRow {
  /// The condition that matches one row of a table: `$n`, `$n+1`, … are the values of its columns.
  static func condition(_ table: RelationName, _ columns: [Column], firstParameter: Int) -> String {
    let names = columns.map { SQL.identifier($0.name) }.joined(separator: ", ")
    let values = columns.enumerated().map { "$\(firstParameter + $0)::\(SQL.type($1.type))" }
    let equal = zip(columns, values).map(isEqual)
    func record(_ list: String) -> String { "ROW(\(list))::pg_catalog.record" }
    return """
      ctid OPERATOR(pg_catalog.=) (SELECT ctid FROM ONLY \(table) \
      WHERE \(equal.isEmpty ? "true" : equal.joined(separator: " AND ")) \
      ORDER BY \(record(names)) OPERATOR(pg_catalog.*=) \(record(values.joined(separator: ", "))) \
      DESC LIMIT 1)
      """
  }

  private static func isEqual(_ column: Column, _ value: String) -> String {
    let name = SQL.identifier(column.name)
    let equal =
      hasEquality(column)
      ? "\(name) OPERATOR(pg_catalog.=) \(value)"
      // A type's output matches its input from the source. By its output function, not by a user-defined
      // cast.
      : """
      pg_catalog.format('%s', \(name)) COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) \
      pg_catalog.format('%s', \(value))
      """
    let areNull = "\(name) IS NULL AND \(value) IS NULL"
    // A NULL has no output.
    guard hasEquality(column) else {
      return "(\(areNull) OR \(name) IS NOT NULL AND \(value) IS NOT NULL AND \(equal))"
    }
    return column.isNotNull ? equal : "(\(equal) OR \(areNull))"
  }

  /// Whether `=` of pg_catalog is the type's own equality. That of geometric types means something else.
  private static func hasEquality(_ column: Column) -> Bool {
    column.wireTypeOID < Column.firstUserOID && !withoutEquality.contains(column.wireTypeOID)
  }

  private static let withoutEquality: Set<UInt32> = [
    // json, xml, jsonpath, refcursor, txid_snapshot, pg_snapshot
    114, 142, 4072, 1790, 2970, 5038,
    // point, lseg, path, box, polygon, line, circle
    600, 601, 602, 603, 604, 628, 718,
    // their arrays
    199, 143, 4073, 2201, 2949, 5039, 1017, 1018, 1019, 1020, 1027, 629, 719,
  ]
}
