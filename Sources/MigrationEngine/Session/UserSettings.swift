import LibPQ

/// The settings that a database gives its users. What users wrote themselves is evaluated under them, on
/// whichever end: checks, generated columns, expressions of indexes, triggers, materialized views. Of what
/// a role decides, the owner of the table counts, since nobody knows who will write to it.
///
/// What users read and write in a session of ours keeps its meaning: values travel in forms that these
/// settings do not touch (dates and times in ISO form with their offset from UTC, intervals with a sign
/// before each part, `bytea` in hex), and every name and operator of ours is written with its schema.
struct UserSettings: Sendable, Equatable {
  typealias Setting = Session.Setting

  /// What the server, `ALTER ROLE ALL` and `ALTER DATABASE` say, in this order.
  private(set) var everyone: [String: String] = [:]
  /// What `ALTER ROLE` and `ALTER ROLE … IN DATABASE` say.
  private(set) var roles: [String: [String: String]] = [:]
  /// Schemas that are called like a role: `"$user"` in a path.
  private(set) var ownSchemas: Set<String> = []
  /// Owns most tables: sessions begin with its settings.
  private(set) var mainOwner = ""
  /// What the other end does not take.
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

  /// What expressions may depend on, by the names in small letters.
  static let meaningful: Set = [
    "bytea_output", "datestyle", "default_text_search_config", "extra_float_digits", "intervalstyle",
    "lc_numeric", "lc_time", "quote_all_identifiers", "search_path", "standard_conforming_strings",
    "timezone", "timezone_abbreviations", "transform_null_equals", "xmlbinary",
  ]
  /// The same, but values of ours would be read in another way: only where none travels.
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

  /// - Parameter isAlone: nothing else is done in the session than to evaluate what users wrote.
  func settings(of owner: String, isAlone: Bool = false) -> [Setting] {
    everyone.merging(roles[owner] ?? [:]) { _, own in own }
      .filter { Self.isPassedOn($0.key, isAlone: isAlone) && !refused.contains(Setting($0.key, $0.value)) }
      .map { name, value in
        Setting(name, name == "search_path" ? path(value, of: owner, isAlone) : value)
      }
      .sorted { $0.name < $1.name }
  }

  /// The path as the owner's session has it; ours is of another role. Where values of ours travel, those that
  /// are names (`regtype`, `regproc`) come without a schema if they are PostgreSQL's own, so that these must
  /// come first, as they do on almost every path.
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

  /// The way to another owner's settings and back, for a session that has the main owner's: statements.
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
        // A parameter of the user's own that was set once can only be empty again.
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
