import LibPQ

/// Settings of a server as it is to start with them the next time: what its files say, and whether our role
/// may change that (manual, ALTER SYSTEM, and sections 54.24 and 54.6).
struct ServerSettings: Sendable, Equatable {
  struct Entry: Sendable, Equatable {
    /// The server has read a change that takes effect at its next start.
    var isPending = false
    /// Set on the server's command line or by its environment, which win over every file.
    var isFixed = false
    /// What is in effect comes from a file.
    var isFromFile = false
    var mayAlter = false
    /// What the files say last; nil where they do not set it, or our role may not see it.
    var inFiles: String?
    /// What ALTER SYSTEM has stored before; nil as above.
    var own: String?
  }

  var entries: [String: Entry] = [:]
  var seesFiles = false
  /// Errors in the files, with which the server would not start again.
  var faults: [String] = []
  /// Other settings that take effect at the next start.
  var pending: [String] = []
  /// Nil where our role may not see it.
  var dataDirectory: String?
  /// As an identifier.
  var role = ""
  var knowsParameterPrivileges = false

  subscript(name: String) -> Entry { entries[name] ?? Entry() }

  /// Whether the next start brings it, as far as our role can see.
  func isStored(_ need: DecodingSettings.Need) -> Bool {
    let entry = self[need.setting]
    if seesFiles { return entry.inFiles.map(need.isMet) ?? false }
    return entry.isPending && !entry.mayAlter
  }

  // MARK: Reading

  private static let action = "reading the settings that the source's server starts with"

  static func read(_ names: [String], from source: Connection) async throws -> ServerSettings {
    var settings = ServerSettings()
    settings.knowsParameterPrivileges = try await source.has(.parameterPrivileges)
    let isSuperuser = try await source.isSuperuser()
    let mayAlter =
      settings.knowsParameterPrivileges
      ? "pg_catalog.has_parameter_privilege(name, 'ALTER SYSTEM')" : "\(isSuperuser)"
    let rows = try await source.query(
      """
      SELECT name, pending_restart, source IN ('command line', 'environment variable') AS is_fixed,
        source = 'configuration file' AS is_from_file,
        \(mayAlter) AND coalesce(pg_catalog.current_setting('allow_alter_system', true), 'on') = 'on'
          AS may_alter, pg_catalog.quote_ident(CURRENT_USER) AS role,
        CASE WHEN pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')
          THEN pg_catalog.current_setting('data_directory') END AS data_directory
      FROM pg_catalog.pg_settings WHERE name = ANY ($1::text[]) OR pending_restart ORDER BY name
      """, [SQL.array(names)], doing: action, within: .seconds(15))
    for row in rows {
      let name = try row.text("name")
      settings.role = try row.text("role")
      settings.dataDirectory = try row.optional("data_directory")
      guard names.contains(name) else {
        settings.pending.append(name)
        continue
      }
      settings.entries[name] = Entry(
        isPending: try row.bool("pending_restart"), isFixed: try row.bool("is_fixed"),
        isFromFile: try row.bool("is_from_file"),
        mayAlter: try row.bool("may_alter"))
    }
    try await settings.readFiles(names, source)
    return settings
  }

  private mutating func readFiles(_ names: [String], _ source: Connection) async throws {
    let may = try await source.query(
      """
      SELECT pg_catalog.has_table_privilege('pg_catalog.pg_file_settings', 'SELECT') AS files,
        pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT') AS rules
      """, doing: Self.action, within: .seconds(15))
    guard let may = may.first else { return }
    seesFiles = try may.bool("files")
    if seesFiles {
      seesFiles = try await SystemPrivileges.mayCall("pg_show_all_file_settings()", on: source)
    }
    if seesFiles {
      let rows = try await source.query(
        """
        SELECT f.name, f.setting, f.sourcefile, f.sourceline, s.context,
          -- What needs a restart is an error to the server that reads it without one.
          CASE WHEN s.context IS DISTINCT FROM 'postmaster' THEN f.error END AS error
        FROM pg_catalog.pg_file_settings f LEFT JOIN pg_catalog.pg_settings s ON s.name = f.name
        ORDER BY f.seqno
        """, doing: Self.action, within: .seconds(15))
      for row in rows { try note(row, names) }
    }
    guard try may.bool("rules") else { return }
    guard try await SystemPrivileges.mayCall("pg_hba_file_rules()", on: source) else { return }
    faults += try await source.query(
      """
      SELECT line_number, error FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL
      ORDER BY line_number
      """, doing: Self.action, within: .seconds(15)
    ).map { "pg_hba.conf, line \(try $0.text("line_number")): \(try $0.text("error"))" }
  }

  private mutating func note(_ row: Rows.Row, _ names: [String]) throws {
    let file = try row.optional("sourcefile") ?? ""
    if let error = try row.optional("error") {
      let what = try row.optional("name").map { " (\($0))" } ?? ""
      faults.append("\(file), line \(try row.optional("sourceline") ?? "?")\(what): \(error)")
    }
    guard let name = try row.optional("name"), names.contains(name) else { return }
    let value = try row.optional("setting")
    entries[name, default: Entry()].inFiles = value
    if file.hasSuffix("/postgresql.auto.conf") { entries[name, default: Entry()].own = value }
  }

  // MARK: Changing

  /// A setting that ALTER SYSTEM stores.
  struct Change: Sendable, Equatable {
    var name: String
    var value: String
    /// What was stored before.
    var before: String?

    var statement: String { Self.statement(name, value) }

    /// Takes it back.
    var undo: String { before.map { Self.statement(name, $0) } ?? "ALTER SYSTEM RESET \(name);" }

    /// As the server writes it.
    var line: String { "\(name) = \(SQL.literal(value))" }

    private static func statement(_ name: String, _ value: String) -> String {
      "ALTER SYSTEM SET \(name) = \(SQL.literal(value));"
    }
  }

  /// What has to be stored before the restart.
  func changes(for needs: [DecodingSettings.Need]) -> [Change] {
    needs.filter { !isStored($0) }.map { need in
      let entry = self[need.setting]
      // Where our role does not see the files, what they gave the server is put back.
      let before = seesFiles ? entry.own : entry.isFromFile ? need.now : nil
      return Change(name: need.setting, value: need.needed, before: before)
    }
  }
}
