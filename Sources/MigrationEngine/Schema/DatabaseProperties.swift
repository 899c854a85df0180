import LibPQ

/// What belongs to the database itself: the settings of `ALTER DATABASE` and `ALTER ROLE … IN DATABASE`, its
/// comment and its privileges. pg_dump writes them only with the source's database name, and the target's may
/// differ.
struct DatabaseProperties: Sendable, Equatable {
  struct Setting: Sendable, Equatable {
    /// Nil for every role.
    var role: String?
    var name: String
    var value: String
  }

  struct Grant: Sendable, Hashable {
    /// Nil for PUBLIC.
    var role: String?
    var privilege: String
    var isGrantable: Bool
  }

  /// A statement on the target. Its name goes into logs; its values, which may be secrets, do not.
  struct Step: Sendable, Equatable {
    var name: String
    var sql: String
    /// What must be tried first, since nobody could connect if it failed.
    var trial: Session.Setting?
  }

  var settings: [Setting] = []
  var comment: String?
  /// Nil where the server's defaults hold. The owner's privileges are left out: the target has its own.
  var grants: [Grant]?

  // MARK: Compared, but not given to the target

  /// The same, with the defaults spelled out.
  var allGrants: [Grant] = []
  var owner = ""
  /// -1 is none.
  var connectionLimit = -1
  /// The database's name there, and our role.
  var name = ""
  var role = ""

  static func read(from source: Connection) async throws -> DatabaseProperties {
    let action = "reading the database's own properties"
    let own = "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
    let settings = try await source.query(
      """
      SELECT r.rolname, pg_catalog.split_part(e.entry, '=', 1) AS name,
        pg_catalog.substr(e.entry, pg_catalog.strpos(e.entry, '=') + 1) AS value
      FROM pg_catalog.pg_db_role_setting s
        CROSS JOIN pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS e (entry, place)
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
      WHERE s.setdatabase = \(own) ORDER BY r.rolname NULLS FIRST, e.place
      """, doing: action, within: .seconds(15))
    let comments = try await source.query(
      "SELECT pg_catalog.shobj_description(\(own), 'pg_database') AS comment", doing: action,
      within: .seconds(15))
    let privileges = try await source.query(
      """
      SELECT d.datacl IS NOT NULL AS is_set, a.privilege_type, a.is_grantable, r.rolname,
        a.grantee = d.datdba AS is_owner, d.datname, d.datconnlimit,
        pg_catalog.pg_get_userbyid(d.datdba) AS owner, CURRENT_USER AS role
      FROM pg_catalog.pg_database d
        LEFT JOIN pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a ON true
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
      WHERE d.oid = \(own) ORDER BY r.rolname NULLS FIRST, a.privilege_type
      """, doing: action, within: .seconds(15))
    var properties = DatabaseProperties(comment: try comments.first?.optional("comment"))
    properties.settings = try settings.map {
      Setting(role: try $0.optional("rolname"), name: try $0.text("name"), value: try $0.text("value"))
    }
    properties.allGrants = try privileges.filter { try $0.optional("is_owner") == "f" }.map {
      Grant(
        role: try $0.optional("rolname"), privilege: try $0.text("privilege_type"),
        isGrantable: try $0.bool("is_grantable"))
    }
    guard let database = privileges.first else { return properties }
    if try database.bool("is_set") { properties.grants = properties.allGrants }
    properties.name = try database.text("datname")
    properties.role = try database.text("role")
    properties.owner = try database.text("owner")
    properties.connectionLimit = try database.integer("datconnlimit")
    return properties
  }

  /// Gives them to the target's database, each in its own transaction.
  /// - Parameters:
  ///   - string: for the same database, for sessions that try what might keep others from starting.
  ///   - onRefusal: called for what the target's role may not do, or its server cannot; the others are not
  ///     affected.
  func apply(
    to target: Connection, _ string: ConnectionString, onRefusal: (_ step: Step, _ reason: String) -> Void
  ) async throws {
    let rows = try await target.query(
      """
      SELECT d.datname, pg_catalog.pg_has_role(d.datdba, 'USAGE') AS is_owner
      FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
      """, doing: "asking the target for its name", within: .seconds(15))
    guard let row = rows.first else { return }
    var usable = self
    let known = try await target.query(
      "SELECT rolname FROM pg_catalog.pg_roles", doing: "asking the target for its roles",
      within: .seconds(15))
    let roles = Set(try known.map { try $0.text("rolname") })
    let lacking = Set((grants ?? []).compactMap(\.role)).subtracting(roles)
    // In one statement a single refusal would refuse them all.
    usable.grants?.removeAll { $0.role.map(lacking.contains) ?? false }
    for role in lacking.sorted() where role != self.role {
      let name = "GRANT ON DATABASE TO \(SQL.identifier(role))"
      onRefusal(Step(name: name, sql: ""), "the target has no such role")
    }
    for step in usable.steps(on: try row.text("datname"), isOwner: try row.bool("is_owner")) {
      if let trial = step.trial,
        let reason = try await Session.refusal(of: trial, on: string, end: target.end)
      {
        onRefusal(step, "no session could begin any more: \(reason)")
        continue
      }
      do {
        try await target.query(step.sql, doing: step.name, within: .seconds(30))
      } catch let error as PostgresError where error.sqlState != nil && !error.isConnectionLoss {
        onRefusal(step, error.message)
      }
    }
  }

  /// - Parameter isOwner: others might revoke their own right to connect, and may grant nothing.
  func steps(on database: String, isOwner: Bool) -> [Step] {
    let database = SQL.identifier(database)
    var steps = settings.map { setting in
      let holder =
        setting.role.map { "ROLE \(SQL.identifier($0)) IN DATABASE \(database)" } ?? "DATABASE \(database)"
      return Step(
        name: "ALTER \(holder) SET \(SettingText.quoted(parameter: setting.name))",
        sql: SettingText.statement("ALTER \(holder)", set: setting.name, to: setting.value),
        trial: SettingText.mayKeepSessionsFromBeginning(setting.name)
          ? Session.Setting(setting.name, setting.value) : nil)
    }
    if let comment {
      let name = "COMMENT ON DATABASE \(database)"
      steps.append(Step(name: name, sql: "\(name) IS \(SQL.literal(comment))"))
    }
    guard isOwner, let grants else { return steps }
    let on = "ON DATABASE \(database)"
    // In one statement, so that nobody is locked out in between.
    let all =
      ["REVOKE ALL \(on) FROM PUBLIC"]
      + grants.map { grant in
        "GRANT \(grant.privilege) \(on) TO \(grant.role.map(SQL.identifier) ?? "PUBLIC")"
          + (grant.isGrantable ? " WITH GRANT OPTION" : "")
      }
    steps.append(Step(name: "GRANT \(on)", sql: all.joined(separator: "; ")))
    return steps
  }
}
