import ArgumentParser
import MigrationEngine

/// Reads `schema.table` as psql does: folded to lower case unless in double quotes, where `""` is a quote
/// (manual, section 4.1.1).
enum RelationNameParser {
  static func parse(_ text: String) throws -> RelationName {
    let names = try identifiers(text)
    guard names.count == 2 else { throw ValidationError("give the table with its schema: schema.table") }
    return RelationName(schema: names[0], name: names[1])
  }

  /// Several, with commas between them.
  static func list(_ text: String) throws -> [RelationName] {
    var isQuoted = false
    let parts = text.split(omittingEmptySubsequences: false) { character in
      if character == "\"" { isQuoted.toggle() }
      return character == "," && !isQuoted
    }
    return try parts.map { try parse(String($0)) }
  }

  private static func identifiers(_ text: String) throws -> [String] {
    var names: [String] = []
    var rest = Substring(text)
    while true {
      names.append(try rest.first == "\"" ? quoted(&rest) : unquoted(&rest))
      guard let separator = rest.popFirst() else { return names }
      guard separator == "." else {
        throw ValidationError("a dot is missing after \(SQL.identifier(names.last ?? ""))")
      }
    }
  }

  private static func quoted(_ rest: inout Substring) throws -> String {
    var name = ""
    rest.removeFirst()
    while let character = rest.popFirst() {
      guard character == "\"" else {
        name.append(character)
        continue
      }
      guard rest.first == "\"" else { return try checked(name) }
      rest.removeFirst()
      name.append("\"")
    }
    throw ValidationError("the double quote is not closed")
  }

  private static func unquoted(_ rest: inout Substring) throws -> String {
    let name = rest.prefix { $0 != "." && $0 != "\"" }
    rest = rest.dropFirst(name.count)
    if let odd = name.first(where: { $0.isWhitespace || "*?()[]{},;'".contains($0) }) {
      throw ValidationError("'\(odd)' needs double quotes: a table is named, patterns are not understood")
    }
    // Only ASCII letters: what the server folds beyond them depends on its encoding.
    return try checked(String(String.UnicodeScalarView(name.unicodeScalars.map(folded))))
  }

  private static func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    guard ("A"..."Z").contains(scalar) else { return scalar }
    return Unicode.Scalar(UInt8(truncatingIfNeeded: scalar.value) | 0x20)
  }

  private static func checked(_ name: String) throws -> String {
    guard !name.isEmpty else { throw ValidationError("a name is empty: give schema.table") }
    guard name.utf8.count <= 63 else { throw ValidationError("a name is longer than PostgreSQL's 63 bytes") }
    return name
  }
}
