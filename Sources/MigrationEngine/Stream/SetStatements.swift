import LibPQ

/// Statements that apply one kind of change to many rows of a table, joined by their keys: with one array per
/// column or, in binary, where no quoting is needed, an array of whole rows.
struct SetStatements {
  enum Shape: Hashable {
    case delete
    /// Positions of columns that the UPDATEs leave unchanged.
    case update(unchanged: [Int])
  }

  struct Statement {
    var sql: String
    var parameters: [Parameter]
  }

  enum Parameter {
    /// Values of one position of the tuples.
    case array(position: Int, ArraySyntax)
    case rows(RowType.Parameter)
  }

  /// What the rows are joined with.
  private struct Source {
    /// For FROM, as `v`.
    var sql: String
    var parameters: [Parameter]
    /// The expression for a column's value, by its position.
    var values: [Int: String]
  }

  private var known: [Shape: Statement?] = [:]

  /// - Returns: nil when a column's values cannot be sent in an array.
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
    var isBinaryUpdate = false
    if case .update(let unchanged) = shape {
      set = table.columns.indices.filter { !isKey.contains($0) && !unchanged.contains($0) }
      isBinaryUpdate = table.format == .binary
    }
    // Of a deleted row only the key is known; an array of keys is smaller than rows full of NULL.
    let needed = set + keys.map(\.position)
    guard let source = isBinaryUpdate ? rows(needed, table) : arrays(needed, table) else { return nil }
    func value(_ position: Int) -> String { source.values[position] ?? "NULL" }
    func column(_ position: Int) -> String { SQL.identifier(table.columns[position].name) }
    let condition = keys.map { key in
      "t.\(column(key.position)) \(key.equality) \(value(key.position))"
    }.joined(separator: " AND ")
    var statement = Statement(sql: "", parameters: source.parameters)
    switch shape {
    case .delete:
      statement.sql = "DELETE FROM ONLY \(table.name) AS t USING \(source.sql) WHERE \(condition)"
    case .update where set.isEmpty:
      // UPDATEs that change nothing must still find their rows.
      statement.sql = "SELECT FROM ONLY \(table.name) AS t, \(source.sql) WHERE \(condition)"
    case .update:
      let assignments = set.map { "\(column($0)) = \(value($0))" }.joined(separator: ", ")
      statement.sql =
        "UPDATE ONLY \(table.name) AS t SET \(assignments) FROM \(source.sql) WHERE \(condition)"
    }
    return statement
  }

  private static func arrays(_ positions: [Int], _ table: StreamTable) -> Source? {
    var source = Source(sql: "", parameters: [], values: [:])
    var functions: [String] = []
    for position in positions {
      guard let form = table.arrayForms[position] else { return nil }
      let number = functions.count + 1
      functions.append("pg_catalog.unnest($\(number)::\(form.parameterType))")
      switch (form, table.format) {
      case (.array(_, let delimiter, let isPlain), .text):
        source.values[position] = "v.c\(number)"
        source.parameters.append(.array(position: position, .text(delimiter: delimiter, isPlain: isPlain)))
      case (.array, .binary):
        source.values[position] = "v.c\(number)"
        source.parameters.append(
          .array(position: position, .binary(elementOID: table.columns[position].typeOID)))
      case (.texts(let cast), .text):
        source.values[position] = "v.c\(number)::\(cast)"
        source.parameters.append(
          .array(position: position, .text(delimiter: UInt8(ascii: ","), isPlain: false)))
      case (.texts, .binary): return nil
      }
    }
    let names = functions.indices.map { "c\($0 + 1)" }.joined(separator: ", ")
    source.sql = "ROWS FROM (\(functions.joined(separator: ", "))) AS v (\(names))"
    return source
  }

  private static func rows(_ positions: [Int], _ table: StreamTable) -> Source? {
    guard let parameter = table.rowType.parameter(with: Set(positions)) else { return nil }
    var source = Source(
      sql: "pg_catalog.unnest($1::\(table.rowType.name)[]) AS v", parameters: [.rows(parameter)], values: [:])
    for position in positions {
      source.values[position] = "v.\(SQL.identifier(table.columns[position].name))"
    }
    return source
  }
}
