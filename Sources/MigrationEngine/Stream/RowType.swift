import LibPQ

/// The composite type of a table's rows: an array of it passes many rows as one parameter, whatever the types
/// of their columns.
struct RowType {
  struct Attribute {
    var typeOID: UInt32
    /// Whether its type may refuse NULL.
    var isDomain: Bool
    /// The position of its value in tuples; nil when it has none, because it is generated.
    var position: Int?
  }

  /// Quoted for SQL.
  let name: String
  private let typeOID: UInt32
  private let attributes: [Attribute]

  /// - Parameter columns: the table's columns in tuples, in their order.
  init(_ relation: Relation, _ columns: [Column]) {
    name = relation.name.description
    typeOID = relation.rowTypeOID
    var positions: [String: Int] = [:]
    for (position, column) in columns.enumerated() { positions[column.name] = position }
    attributes = relation.columns.map { column in
      Attribute(typeOID: column.typeOID, isDomain: column.isDomain, position: positions[column.name])
    }
  }

  /// Rows as a parameter.
  struct Parameter {
    var syntax: RowSyntax
    /// The position of each column's value in tuples; nil where it is NULL.
    var positions: [Int?]
  }

  /// - Parameter positions: those with values; the other columns are NULL.
  /// - Returns: nil when one of the others may refuse that.
  func parameter(with positions: Set<Int>) -> Parameter? {
    var parameter = Parameter(
      syntax: RowSyntax(typeOID: typeOID, columnOIDs: attributes.map(\.typeOID)), positions: [])
    for attribute in attributes {
      let position = attribute.position.flatMap { positions.contains($0) ? $0 : nil }
      if position == nil, attribute.isDomain { return nil }
      parameter.positions.append(position)
    }
    return parameter
  }
}
