import LogicalReplication

/// Quoting for statements that cannot take parameters (manual, section 4.1).
package enum SQL {
  package static func identifier(_ name: String) -> String { quotedIdentifier(name) }

  package static func literal(_ text: String) -> String { quotedLiteral(text) }

  /// The text form of an array of texts, for a parameter (manual, section 8.15.6).
  package static func array(_ texts: [String]) -> String {
    let elements = texts.map { text in
      "\"\(text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\""
    }
    return "{\(elements.joined(separator: ","))}"
  }
}
