import LogicalReplication

/// A relation's name with its schema, as the catalogs spell it.
package struct RelationName: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  /// Without quotes.
  package let schema: String
  /// Without quotes.
  package let name: String

  /// Both without quotes, in their true case.
  package init(schema: String, name: String) {
    self.schema = schema
    self.name = name
  }

  /// Quoted for SQL, and for people: names may contain anything.
  package var description: String { "\(quotedIdentifier(schema)).\(quotedIdentifier(name))" }

  package static func < (left: Self, right: Self) -> Bool {
    (left.schema, left.name) < (right.schema, right.name)
  }
}
