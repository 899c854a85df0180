import CLibPQ

/// A libpq connection string: a URI or keywords and values, with a service, a passfile or the environment
/// filling in the rest (manual, section 34.1.1). Parsed by libpq itself; never printed with its password.
package struct ConnectionString: Sendable {
  /// The keywords that the string itself sets, in libpq's order. Services and the environment are left to
  /// libpq.
  package private(set) var keywords: [(name: String, value: String)]
  /// Asked for the password of each new connection; nil where the string, a passfile or the environment has
  /// it.
  package var passwordSource: PasswordSource?
  /// Settings given at the start of the session that, like the password, are not printed.
  private var secretSettings: [(name: String, value: String)] = []

  /// - Throws: `PostgresError` with code `.connectionString`; libpq's message names the word it did not
  ///   understand.
  package init(_ text: String, for end: String) throws {
    var message: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(text, &message) else {
      // libpq may quote a part of the string, and that part may be the password.
      let reason = message.map { String(cString: $0).trimmedLine } ?? "out of memory"
      PQfreemem(message)
      let safe = text.lowercased().contains("password") || text.contains("@") ? "it cannot be parsed" : reason
      throw PostgresError(
        code: .connectionString, action: "reading the connection string of the \(end)", message: safe,
        hint: "Give keywords and values (host=… dbname=…) or a URI (postgresql://user@host/database).")
    }
    defer { PQconninfoFree(options) }
    keywords = []
    var option = options
    while let name = option.pointee.keyword {
      if let value = option.pointee.val { keywords.append((String(cString: name), String(cString: value))) }
      option += 1
    }
  }

  /// The value of a keyword, nil unless the string itself sets it; the last one where it is set twice.
  package subscript(name: String) -> String? {
    keywords.last { $0.name == name }?.value
  }

  /// The same string with one keyword set or replaced.
  package func setting(_ name: String, to value: String) -> ConnectionString {
    var copy = self
    copy.keywords.removeAll { $0.name == name }
    copy.keywords.append((name, value))
    return copy
  }

  /// The same string with a keyword that it did not set itself.
  package func settingDefault(_ name: String, to value: String) -> ConnectionString {
    self[name] == nil ? setting(name, to: value) : self
  }

  /// The same string with a secret session setting: it is sent at the start of the session, not in a
  /// statement that others could see or the server would log.
  /// - Parameter value: letters and digits.
  package func settingSecretly(_ name: String, to value: String) -> ConnectionString {
    var copy = self
    copy.secretSettings.removeAll { $0.name == name }
    copy.secretSettings.append((name, value))
    return copy
  }

  /// The same string with settings for the start of the session, after the `options` that it or the
  /// environment (`PGOPTIONS`) has: of two for the same parameter the last one wins.
  package func addingOptions(_ settings: [(name: String, value: String)]) -> ConnectionString {
    let added = settings.map { "-c \($0.name)=\(Self.escapedOption($0.value))" }
    let options = [self["options"] ?? Self.inheritedOptions].compactMap { $0 } + added
    return setting("options", to: options.joined(separator: " "))
  }

  /// The server splits options at blanks (manual, section 55.2.1, on `options`).
  private static func escapedOption(_ value: String) -> String {
    var escaped = String.UnicodeScalarView()
    for scalar in value.unicodeScalars {
      if scalar == "\\" || scalar.properties.isWhitespace { escaped.append("\\") }
      escaped.append(scalar)
    }
    return String(escaped)
  }

  private static var inheritedOptions: String? {
    guard let defaults = PQconndefaults() else { return nil }
    defer { PQconninfoFree(defaults) }
    var option = defaults
    while let name = option.pointee.keyword {
      if String(cString: name) == "options" { return option.pointee.val.map { String(cString: $0) } }
      option += 1
    }
    return nil
  }

  /// What libpq is given: the keywords with the secret settings among the `options`.
  var complete: [(name: String, value: String)] {
    guard !secretSettings.isEmpty else { return keywords }
    return addingOptions(secretSettings).keywords
  }

  private static let secrets: Set<String> = ["password", "sslpassword"]

  /// Keywords and values without secrets: for messages, and for the arguments of child processes.
  package var redacted: String {
    keywords.filter { !Self.secrets.contains($0.name) }
      .map { "\($0.name)=\(Self.quoted($0.value))" }.joined(separator: " ")
  }

  /// The password, for the environment of child processes (`PGPASSWORD`): an argument would show it to `ps`.
  package var password: String? { self["password"] }

  /// Works on scalars: a quote followed by a combining mark is one `Character`, but still a quote to libpq.
  private static func quoted(_ value: String) -> String {
    let plain = !value.isEmpty && value.allSatisfy { $0.isLetter || $0.isNumber || "._-/:,@".contains($0) }
    if plain { return value }
    var escaped = String.UnicodeScalarView()
    for scalar in value.unicodeScalars {
      if scalar == "'" || scalar == "\\" { escaped.append("\\") }
      escaped.append(scalar)
    }
    return "'\(String(escaped))'"
  }
}

// However it is printed, by interpolation, a debugger or `dump`, the password is left out.
extension ConnectionString: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  package var description: String { redacted }
  package var debugDescription: String { redacted }
  package var customMirror: Mirror { Mirror(self, children: ["redacted": redacted]) }
}
