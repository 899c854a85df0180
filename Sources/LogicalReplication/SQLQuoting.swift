/// `name` as an SQL identifier, quoted whether it needs to be or not.
/// A NUL cannot be part of any SQL text; the server rejects what remains of the statement.
package func quotedIdentifier(_ name: String) -> String {
  "\"\(doubling("\"", in: name))\""
}

/// `schema` and `name` as one qualified SQL identifier.
package func quotedIdentifier(schema: String, name: String) -> String {
  "\(quotedIdentifier(schema)).\(quotedIdentifier(name))"
}

/// `value` as an SQL string constant, whatever `standard_conforming_strings` says: with a backslash in it,
/// it is written as `E'…'`. Not for walsender commands, whose grammar has no `E'…'`.
package func quotedLiteral(_ value: String) -> String {
  let doubled = doubling("'", in: value)
  guard value.unicodeScalars.contains("\\") else { return "'\(doubled)'" }
  // The blank keeps the E from joining a word before it.
  return " E'\(doubling("\\", in: doubled))'"
}

/// `value` as a string constant of the walsender's grammar, in which a backslash is literal.
func walsenderLiteral(_ value: String) -> String {
  "'\(doubling("'", in: value))'"
}

/// Works on scalars: a quote followed by a combining mark is one `Character`, but still a quote to the
/// server.
private func doubling(_ scalar: Unicode.Scalar, in text: String) -> String {
  var result = String.UnicodeScalarView()
  for each in text.unicodeScalars {
    result.append(each)
    if each == scalar { result.append(each) }
  }
  return String(result)
}
