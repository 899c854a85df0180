import LibPQ

/// The settings that a database gives its users. Users' expressions are evaluated under them, on either end:
/// checks, generated columns, index expressions, triggers, materialized views. Where a role decides, the
/// table's owner counts, since it is not known who will write to it.
///
/// Our own values and statements keep their meaning in such a session: values are sent in forms that these
/// settings do not affect (dates and times in ISO form with their UTC offset, intervals with a sign before
/// each part, `bytea` in hex), and all our names and operators are schema-qualified.
struct UserSettings: Sendable, Equatable {
  typealias Setting = Session.Setting

  /// From the server, `ALTER ROLE ALL` and `ALTER DATABASE`, in this order.
  private(set) var everyone: [String: String] = [:]
  /// From `ALTER ROLE` and `ALTER ROLE … IN DATABASE`.
  private(set) var roles: [String: [String: String]] = [:]
  /// Schemas named like a role: `"$user"` in a path.
  private(set) var ownSchemas: Set<String> = []
  /// The owner of most tables: sessions start with its settings.
  private(set) var mainOwner = ""
  /// What the other end refuses.
  var refused: Set<Setting> = []

  init() {}

  init(
    everyone: [String: String], roles: [String: [String: String]], ownSchemas: Set<String>, mainOwner: String
  ) {
    self.everyone = everyone
    self.roles = roles
    self.ownSchemas = ownSchemas
    self.mainOwner = mainOwner
  }

  // MARK: What is passed on

  /// What expressions may depend on, by lower-case name.
  static let meaningful: Set = [
    "bytea_output", "datestyle", "default_text_search_config", "extra_float_digits", "intervalstyle",
    "lc_numeric", "lc_time", "quote_all_identifiers", "search_path", "standard_conforming_strings",
    "timezone", "timezone_abbreviations", "transform_null_equals", "xmlbinary",
  ]
  /// The same, but our values would be read differently: only where none are sent.
  static let meaningfulAlone: Set = [
    "array_nulls", "gin_fuzzy_search_limit", "lc_monetary", "row_security", "xmloption",
  ]
  /// How new values are stored; nothing depends on it.
  private static let alsoStored: Set = ["default_toast_compression"]

  static func isPassedOn(_ name: String, isAlone: Bool) -> Bool {
    // Those of extensions and of the user's own.
    if name.contains(".") { return !name.hasPrefix("replicate.") }
    return meaningful.contains(name) || alsoStored.contains(name) || isAlone && meaningfulAlone.contains(name)
  }

  /// - Parameter isAlone: the session does nothing but evaluate users' expressions.
  func settings(of owner: String, isAlone: Bool = false) -> [Setting] {
    everyone.merging(roles[owner] ?? [:]) { _, own in own }
      .filter { Self.isPassedOn($0.key, isAlone: isAlone) && !refused.contains(Setting($0.key, $0.value)) }
      .map { name, value in
        Setting(name, name == "search_path" ? path(value, of: owner, isAlone) : value)
      }
      .sorted { $0.name < $1.name }
  }

  /// The path of the owner's session; ours has another role. Where our values are sent, names (`regtype`,
  /// `regproc`) of PostgreSQL's own objects have no schema, so pg_catalog must come first, as it does on
  /// almost every path.
  private func path(_ path: String, of owner: String, _ isAlone: Bool) -> String {
    var names = SettingText.names(in: path, areIdentifiers: true).compactMap { name in
      guard name == "$user" else { return name }
      return ownSchemas.contains(owner) ? owner : nil
    }
    if !isAlone, let place = names.firstIndex(of: "pg_catalog") {
      names.insert(names.remove(at: place), at: 0)
    }
    return names.map(SQL.identifier).joined(separator: ", ")
  }

  /// Statements that switch to another owner's settings and back, for a session with the main owner's.
  struct Detour: Sendable, Hashable {
    var enter: String
    var leave: String
  }

  /// - Parameter isLocal: the statements are run in a transaction, and end with it.
  /// - Returns: nil where the settings are the same.
  func detour(to owner: String, isLocal: Bool = true) -> Detour? {
    guard owner != mainOwner else { return nil }
    let main = settings(of: mainOwner)
    let others = settings(of: owner)
    let changed = Set(main).symmetricDifference(others)
    guard !changed.isEmpty else { return nil }
    func statement(_ settings: [Setting]) -> String {
      let values = Dictionary(settings.map { ($0.name, $0.value) }) { first, _ in first }
      let calls = Set(changed.map(\.name)).sorted().map { name in
        // A user-defined parameter that was set once can only be emptied again.
        """
        pg_catalog.set_config(\(SQL.literal(name)), \(SQL.literal(values[name] ?? "")), \(isLocal))
        """
      }
      return "SELECT \(calls.joined(separator: ", "))"
    }
    return Detour(enter: statement(others), leave: statement(main))
  }

  /// For the rest of the session.
  /// - Parameter owner: the main one when nil.
  func apply(
    to connection: Connection, for owner: String? = nil, isAlone: Bool = false
  ) async throws {
    let settings = settings(of: owner ?? mainOwner, isAlone: isAlone)
    guard !settings.isEmpty else { return }
    try await connection.query(
      """
      SELECT pg_catalog.set_config(s.name, s.value, false)
      FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))
        AS s (name, value)
      """, [SQL.array(settings.map(\.name)), SQL.array(settings.map(\.value))],
      doing: "giving a session the settings of the database's users", within: .seconds(15))
  }
}
