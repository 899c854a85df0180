/// Quoting for statements that cannot take parameters (manual, section 4.1).
package enum SQL {
  package static func identifier(_ name: String) -> String {
    "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
  }

  package static func literal(_ text: String) -> String {
    let quoted =
      "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    guard text.contains("\\") else { return quoted }
    return "E" + quoted.split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\")
  }
}
