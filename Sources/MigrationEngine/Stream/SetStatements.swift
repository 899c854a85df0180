import LibPQ

/// Statements that apply one kind of change to many rows of a table: each column's values are one array, and
/// the rows are joined by their keys.
struct SetStatements {
  enum Shape: Hashable {
    case delete
    /// Positions of columns that the UPDATEs do not touch.
    case update(unchanged: [Int])
  }

  struct Statement {
    var sql: String
    /// The parameters: which position of the tuples each is made of, and how.
    var parameters: [(position: Int, syntax: ArraySyntax)]
  }

  private var known: [Shape: Statement?] = [:]

  /// - Returns: nil when a column's values cannot travel in an array.
  mutating func statement(_ shape: Shape, for table: StreamTable) -> Statement? {
    if let known = known[shape] { return known }
    let statement = Self.make(shape, table)
    if known.count >= 1000 { known.removeAll() }
    known[shape] = .some(statement)
    return statement
  }

  private static func make(_ shape: Shape, _ table: StreamTable) -> Statement? {
    guard case .index(let keys) = table.lookup else { return nil }
    let isKey = Set(keys.map(\.position))
    var set: [Int] = []
    if case .update(let unchanged) = shape {
      set = table.columns.indices.filter { !isKey.contains($0) && !unchanged.contains($0) }
    }
    var statement = Statement(sql: "", parameters: [])
    var sources: [String] = []
    // What a column's value is called in the join.
    var values: [Int: String] = [:]
    for position in set + keys.map(\.position) {
      guard let form = table.arrayForms[position] else { return nil }
      let number = sources.count + 1
      sources.append("pg_catalog.unnest($\(number)::\(form.parameterType))")
      switch form {
      case .array(_, let delimiter, let isPlain):
        values[position] = "v.c\(number)"
        statement.parameters.append((position, ArraySyntax(delimiter: delimiter, isPlain: isPlain)))
      case .texts(let cast):
        values[position] = "v.c\(number)::\(cast)"
        statement.parameters.append((position, ArraySyntax(delimiter: UInt8(ascii: ","), isPlain: false)))
      }
    }
    let names = sources.indices.map { "c\($0 + 1)" }.joined(separator: ", ")
    let join = "ROWS FROM (\(sources.joined(separator: ", "))) AS v (\(names))"
    func column(_ position: Int) -> String { SQL.identifier(table.columns[position].name) }
    let condition = keys.map { key in
      "t.\(column(key.position)) \(key.equality) \(values[key.position] ?? "NULL")"
    }.joined(separator: " AND ")
    switch shape {
    case .delete:
      statement.sql = "DELETE FROM ONLY \(table.name) AS t USING \(join) WHERE \(condition)"
    case .update where set.isEmpty:
      // UPDATEs that change nothing must still find their rows.
      statement.sql = "SELECT FROM ONLY \(table.name) AS t, \(join) WHERE \(condition)"
    case .update:
      let assignments = set.map { "\(column($0)) = \(values[$0] ?? "NULL")" }.joined(separator: ", ")
      statement.sql = "UPDATE ONLY \(table.name) AS t SET \(assignments) FROM \(join) WHERE \(condition)"
    }
    return statement
  }
}
