/// A stored setting as the statement that sets it again (manual, section 53.13, pg_db_role_setting).
enum SettingText {
  static func statement(_ alter: String, set name: String, to value: String) -> String {
    "\(alter) SET \(quoted(parameter: name)) TO \(literal(value, of: name))"
  }

  /// Parameters of extensions have two parts.
  static func quoted(parameter: String) -> String {
    parameter.split(separator: ".", omittingEmptySubsequences: false).map { SQL.identifier(String($0)) }
      .joined(separator: ".")
  }

  /// Stored as lists of quoted names, which `SET` needs as separate values.
  private static let lists: Set = [
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
  ]

  /// A library that the server lacks: other values that it refuses are only a warning.
  static func mayKeepSessionsFromBeginning(_ parameter: String) -> Bool {
    ["local_preload_libraries", "session_preload_libraries"].contains(parameter.lowercased())
  }

  static func literal(_ value: String, of parameter: String) -> String {
    let parameter = parameter.lowercased()
    guard lists.contains(parameter) else { return SQL.literal(value) }
    let names = names(in: value, areIdentifiers: ["search_path", "temp_tablespaces"].contains(parameter))
    return names.isEmpty ? "''" : names.map(SQL.literal).joined(separator: ", ")
  }

  /// The names of a list in which a name may be in double quotes, with `""` for a quote.
  /// - Parameter areIdentifiers: without quotes case does not matter.
  static func names(in list: String, areIdentifiers: Bool) -> [String] {
    var names: [String] = []
    var rest = Substring(list)
    while true {
      rest = rest.drop { $0 == " " }
      guard let first = rest.first else { return names }
      var name = ""
      if first == "\"" {
        rest = rest.dropFirst()
        while let character = rest.popFirst() {
          if character == "\"" {
            guard rest.first == "\"" else { break }
            rest.removeFirst()
          }
          name.append(character)
        }
      } else {
        name = String(rest.prefix { $0 != "," })
        rest = rest.dropFirst(name.count)
        while name.last == " " { name.removeLast() }
        if areIdentifiers { name = name.lowercased() }
      }
      names.append(name)
      rest = rest.drop { $0 != "," }.dropFirst()
    }
  }
}
