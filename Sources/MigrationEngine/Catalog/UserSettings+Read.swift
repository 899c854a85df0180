import LibPQ

extension UserSettings {
  /// - Parameters:
  ///   - connection: to the end where users are, without an open transaction.
  ///   - other: to the end where the settings will be used; those it refuses are left out.
  static func read(
    from connection: Connection, usableOn other: Connection? = nil
  ) async throws -> UserSettings {
    let stored = try await stored(in: connection)
    let own = try await role(of: connection)
    var everyone = try await server(connection)
    everyone.merge(stored[nil] ?? [:]) { _, stored in stored }
    var roles: [String: [String: String]] = [:]
    for (role, settings) in stored { if let role { roles[role] = settings } }
    let owners = try await connection.query(
      """
      SELECT pg_catalog.pg_get_userbyid(c.relowner) AS owner
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(Catalog.isUserTable) GROUP BY c.relowner ORDER BY pg_catalog.count(*) DESC, 1 LIMIT 1
      """, doing: "asking the \(connection.end) who owns its tables", within: .seconds(60))
    let schemas = try await connection.query(
      """
      SELECT n.nspname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.rolname = n.nspname
      """, doing: "looking for schemas that are called like a role", within: .seconds(30))
    let settings = UserSettings(
      everyone: everyone, roles: roles, ownSchemas: Set(try schemas.map { try $0.text("nspname") }),
      mainOwner: try owners.first?.text("owner") ?? own)
    guard let other else { return settings }
    return try await settings.usable(on: other)
  }

  /// By role, nil for all roles; settings for this database come before those for all databases.
  private static func stored(in connection: Connection) async throws -> [String?: [String: String]] {
    let rows = try await connection.query(
      """
      SELECT r.rolname, pg_catalog.lower(pg_catalog.split_part(e.entry, '=', 1)) AS name,
        pg_catalog.substr(e.entry, pg_catalog.strpos(e.entry, '=') + 1) AS value
      FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) AS e (entry)
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
      WHERE (s.setrole = 0 OR r.oid IS NOT NULL) AND s.setdatabase IN (0,
        (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
      ORDER BY s.setdatabase = 0 DESC
      """, doing: "reading the settings that the \(connection.end) gives its users", within: .seconds(30))
    var stored: [String?: [String: String]] = [:]
    for row in rows {
      stored[try row.optional("rolname"), default: [:]][try row.text("name")] = try row.text("value")
    }
    return stored
  }

  private static func role(of connection: Connection) async throws -> String {
    try await connection.query(
      "SELECT session_user AS role", doing: "asking who we are", within: .seconds(15)
    )
    .first?.text("role") ?? ""
  }

  /// The meaningful settings of the server's configuration, where our own do not hide them.
  private static func server(_ connection: Connection) async throws -> [String: String] {
    let names = meaningful.union(meaningfulAlone).sorted()
    let action = "reading the settings of the \(connection.end)'s server"
    let rows = try await connection.transaction("BEGIN READ ONLY", doing: action) { connection in
      // For a moment they are what the session would have without our own.
      let reset = names.map { "SET LOCAL \($0) TO DEFAULT" }
      try await connection.query(reset.joined(separator: "; "), doing: action, within: .seconds(15))
      return try await connection.query(
        """
        SELECT pg_catalog.lower(s.name) AS name, s.setting AS value
        FROM pg_catalog.pg_settings AS s
        WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])
          AND s.source OPERATOR(pg_catalog.<>) ALL ('{client,user,"database user"}'::pg_catalog.text[])
        """, [SQL.array(names)], doing: action, within: .seconds(15))
    }
    var server: [String: String] = [:]
    for row in rows { server[try row.text("name")] = try row.text("value") }
    return server
  }

  /// Each is tried for one statement only.
  private func usable(on other: Connection) async throws -> UserSettings {
    let all = Set(([everyone] + roles.values).flatMap { layer in layer.map { Setting($0.key, $0.value) } })
      .filter { Self.isPassedOn($0.name, isAlone: true) }
      .sorted { ($0.name, $0.value) < ($1.name, $1.value) }
    var usable = self
    if try await takes(all, other) { return usable }
    for setting in all where try await !takes([setting], other) { usable.refused.insert(setting) }
    return usable
  }

  private func takes(_ settings: [Setting], _ connection: Connection) async throws -> Bool {
    do {
      try await connection.query(
        """
        SELECT pg_catalog.set_config(s.name, s.value, true)
        FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s (name, value)
        """, [SQL.array(settings.map(\.name)), SQL.array(settings.map(\.value))],
        doing: "trying the settings of the database's users", within: .seconds(15))
      return true
    } catch let error as PostgresError where error.sqlState != nil && !error.isConnectionLoss {
      return false
    }
  }
}
