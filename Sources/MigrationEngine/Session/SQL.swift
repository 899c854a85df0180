import LogicalReplication

/// Quoting for statements that cannot take parameters (manual, section 4.1).
package enum SQL {
  /// Quoted, whether it needs to be or not.
  package static func identifier(_ name: String) -> String { quotedIdentifier(name) }

  /// For people: quoted only where it would be unreadable otherwise.
  package static func words(_ name: String) -> String {
    let isPlain = name.utf8.allSatisfy { byte in
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "_")
    }
    return isPlain ? name : identifier(name)
  }

  static func literal(_ text: String) -> String { quotedLiteral(text) }

  /// Types that `format_type` prints with keywords, which are valid under any search path.
  private static let typeWords: Set = [
    "bigint", "bit", "boolean", "character", "double", "integer", "interval", "numeric", "real", "smallint",
    "time", "timestamp",
  ]

  /// A type as `format_type` prints it under an empty search path, spelled for any other.
  static func type(_ formatted: String) -> String {
    let name: Substring
    if formatted.hasPrefix("\"") {
      let end = formatted.dropFirst().firstIndex(of: "\"") ?? formatted.endIndex
      name = formatted[..<end]
      // For a name with a quote in it this is only the beginning, and a dot may follow: not one of
      // PostgreSQL's.
      guard formatted[end...].dropFirst().first != ".", formatted[end...].dropFirst().first != "\"" else {
        return formatted
      }
    } else {
      name = formatted.prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "$" }
      guard formatted.dropFirst(name.count).first != ".", !typeWords.contains(String(name)) else {
        return formatted
      }
    }
    return "pg_catalog.\(formatted)"
  }

  /// The text form of an array of texts, for a parameter (manual, section 8.15.6).
  static func array(_ texts: [String]) -> String {
    "{\(texts.map { "\"\(escaped($0))\"" }.joined(separator: ","))}"
  }

  /// By scalars: a quote followed by a combining mark is one `Character`, but still a quote to the server.
  private static func escaped(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if scalar == "\\" || scalar == "\"" { result.append("\\") }
      result.append(scalar)
    }
    return String(result)
  }

  /// Quotes a text as one shell word.
  static func shellQuoted(_ text: String) -> String { "'\(text.replacing("'", with: "'\\''"))'" }
}
