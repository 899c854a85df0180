import LibPQ

/// The composite type of a table's rows: an array of it is a parameter that holds many rows, whatever the
/// types of their columns.
struct RowType {
  struct Attribute {
    var typeOID: UInt32
    /// Its type may refuse NULL.
    var isDomain: Bool
    /// Where tuples have its value; nil when they have none, because it is generated.
    var position: Int?
  }

  /// Quoted for SQL.
  let name: String
  private let typeOID: UInt32
  private let attributes: [Attribute]

  /// - Parameter columns: those of the table that tuples have, in their order.
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
    /// Where tuples have the value of each column; nil where it is NULL.
    var positions: [Int?]
  }

  /// - Parameter positions: those whose values there are; the other columns are NULL.
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
