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

  /// Stored as lists of quoted names, which `SET` takes apart again only when they come one by one.
  private static let lists: Set = [
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
  ]

  static func literal(_ value: String, of parameter: String) -> String {
    guard lists.contains(parameter.lowercased()) else { return SQL.literal(value) }
    let names = names(in: value)
    return names.isEmpty ? "''" : names.map(SQL.literal).joined(separator: ", ")
  }

  /// The names of a list in which a name may stand in double quotes, with `""` for a quote.
  private static func names(in list: String) -> [String] {
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
      }
      names.append(name)
      rest = rest.drop { $0 != "," }.dropFirst()
    }
  }
}
