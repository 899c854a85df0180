import LibPQ

/// The libraries that a server lets replication use as output plugins; since the minor releases of
/// November 2026 a setting decides.
struct OutputPlugins: Sendable, Equatable {
  /// As `output_plugin_libraries` lists them.
  var names: [String]

  /// - Returns: nil where the server knows no such setting, and lets all be used; also where our role may not
  ///   see it, as only members of pg_read_all_settings may.
  static func read(from connection: Connection, doing action: String) async throws -> OutputPlugins? {
    let rows = try await connection.query(
      "SELECT setting AS list FROM pg_catalog.pg_settings WHERE name = 'output_plugin_libraries'",
      doing: action, within: .seconds(30))
    return try rows.first?.optional("list").map { OutputPlugins($0) }
  }

  /// - Parameter list: identifiers, quoted where they need it.
  init(_ list: String) {
    names = list.split(separator: ",").map { name in
      let name = name.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()
      let text = String(name)
      guard text.count > 1, text.hasPrefix("\""), text.hasSuffix("\"") else { return text }
      return String(text.dropFirst().dropLast()).replacing("\"\"", with: "\"")
    }.filter { !$0.isEmpty }
  }

  var havePgOutput: Bool { names.contains("pgoutput") }

  /// What lets pgoutput be used beside those that may be already.
  var remedy: String {
    let list = (names + ["pgoutput"]).map(SQL.literal).joined(separator: ", ")
    return """
      ALTER SYSTEM SET output_plugin_libraries = \(list); SELECT pg_reload_conf(); (Amazon Aurora and RDS: \
      in the parameter group)
      """
  }
}
