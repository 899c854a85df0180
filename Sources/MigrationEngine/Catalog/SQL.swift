import LogicalReplication

/// Quoting for statements that cannot take parameters (manual, section 4.1).
package enum SQL {
  package static func identifier(_ name: String) -> String { quotedIdentifier(name) }

  package static func literal(_ text: String) -> String { quotedLiteral(text) }
}
