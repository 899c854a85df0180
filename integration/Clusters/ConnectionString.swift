import Foundation

/// A libpq connection string, by keywords or as a URI, that can be pointed at another database or user.
/// PostgreSQL manual, section 34.1.1. Of a keyword given twice libpq takes the last.
package struct ConnectionString: Sendable, CustomStringConvertible {
  /// Handed to libpq as it is; holds the password.
  package let text: String

  /// Nothing is looked at before libpq gets it.
  package init(_ text: String) {
    self.text = text
  }

  /// The values are quoted here.
  package init(_ keywords: KeyValuePairs<String, String>) {
    self.text = keywords.map { "\($0.key)=\(Self.quoted($0.value))" }.joined(separator: " ")
  }

  /// Says nothing of the text, which holds a password.
  package var description: String { "connection string" }

  /// The same with these keywords on top; they win over those that are there.
  package func with(_ keywords: [String: String]) -> ConnectionString {
    var result = text
    for (key, value) in keywords.sorted(by: { $0.key < $1.key }) {
      if text.hasPrefix("postgres://") || text.hasPrefix("postgresql://") {
        let encoded = value.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? value
        result += (result.contains("?") ? "&" : "?") + "\(key)=\(encoded)"
      } else {
        result += " \(key)=\(Self.quoted(value))"
      }
    }
    return ConnectionString(result)
  }

  private static func quoted(_ value: String) -> String {
    let escaped =
      value
      .replacing("\\", with: "\\\\")
      .replacing("'", with: "\\'")
    return "'\(escaped)'"
  }
}

/// `text` as an SQL string literal, under `standard_conforming_strings = on`.
package func quotedLiteral(_ text: String) -> String {
  "'" + text.replacing("'", with: "''") + "'"
}

/// `name` as an SQL identifier.
package func quotedIdentifier(_ name: String) -> String {
  "\"" + name.replacing("\"", with: "\"\"") + "\""
}
