import LibPQ

/// Creates roles that the source's objects need and the target lacks, as far as a role without superuser
/// rights may: without password, CREATEDB, CREATEROLE or REPLICATION.
enum MissingRoles {
  struct Made: Sendable {
    var roles: [String] = []
    /// Settings that would keep their roles from connecting to the target, and why: left out.
    var leftOut: [String] = []
    /// Memberships that our role may not grant, or whose role the target lacks, and why.
    var withheld: [String] = []
  }

  /// - Parameter string: how to connect to the target.
  static func create(
    source: Connection, target: Connection, _ string: ConnectionString, publication: String
  ) async throws -> Made {
    let rows = try await target.query(
      "SELECT rolname FROM pg_catalog.pg_roles", doing: "listing the target's roles", within: .seconds(30))
    let present = Set(try rows.map { try $0.text("rolname") })
    let named = try await NamedRole.read(from: source, publication: publication)
    let missing = named.filter { !present.contains($0.name) }
    guard !missing.isEmpty else { return Made() }
    var definitions = try await definitions(of: missing.map(\.name), among: named.map(\.name), on: source)
    var made = Made(roles: missing.map(\.name))
    for setting in try await settings(of: made.roles, on: source) {
      if SettingText.mayKeepSessionsFromBeginning(setting.name),
        let reason = try await Session.refusal(
          of: Session.Setting(setting.name, setting.value), on: string, end: target.end)
      {
        made.leftOut.append("\(setting.alter) SET \(setting.name): \(reason)")
      } else {
        definitions.append(SettingText.statement(setting.alter, set: setting.name, to: setting.value))
      }
    }
    try await target.transaction(doing: "making roles on the target") { [definitions] target in
      for statement in definitions {
        try await target.query(statement, doing: "making roles on the target", within: .seconds(30))
      }
      for role in missing where role.part == .owner {
        // Without superuser rights objects can only be given to roles of which ours is a member.
        try await target.query(
          """
          DO $$ BEGIN
            IF NOT pg_catalog.pg_has_role(\(SQL.literal(role.name)), 'MEMBER') THEN
              GRANT \(SQL.identifier(role.name)) TO CURRENT_USER;
            END IF;
          END $$
          """, doing: "becoming a member of role \(SQL.identifier(role.name))", within: .seconds(30))
      }
    }
    let others = try await RoleMembership.read(of: made.roles, on: source)
      .filter { membership in !named.contains { $0.name == membership.group } }
    made.withheld = try await grant(others, on: target)
    return made
  }

  /// Memberships in roles that the target has of its own: predefined ones, and its provider's.
  /// - Returns: those that were refused, and why.
  private static func grant(_ memberships: [RoleMembership], on target: Connection) async throws -> [String] {
    var refused: [String] = []
    for membership in memberships {
      do {
        try await target.query(
          membership.grant, doing: "granting memberships on the target", within: .seconds(30))
      } catch let error as PostgresError where error.sqlState != nil && !error.isConnectionLoss {
        refused.append("\(membership.grant) \(error.message)")
      }
    }
    return refused
  }

  /// Statements written by the source itself, since it knows how to quote its names: roles, their comments,
  /// and memberships.
  private static func definitions(
    of missing: [String], among named: [String], on source: Connection
  ) async throws -> [String] {
    let rows = try await source.query(
      """
      SELECT 1 AS place, pg_catalog.format('CREATE ROLE %I %s %s CONNECTION LIMIT %s%s', r.rolname,
        CASE WHEN r.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
        CASE WHEN r.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END, r.rolconnlimit,
        CASE WHEN r.rolvaliduntil IS NOT NULL
          THEN pg_catalog.format(' VALID UNTIL %L', r.rolvaliduntil) ELSE '' END) AS statement
      FROM pg_catalog.pg_roles r WHERE r.rolname::text = ANY ($1::text[])
      UNION ALL
      SELECT 2, pg_catalog.format('COMMENT ON ROLE %I IS %L', r.rolname,
        pg_catalog.shobj_description(r.oid, 'pg_authid'))
      FROM pg_catalog.pg_roles r WHERE r.rolname::text = ANY ($1::text[])
        AND pg_catalog.shobj_description(r.oid, 'pg_authid') IS NOT NULL
      UNION ALL
      SELECT 3, pg_catalog.format('GRANT %I TO %I', o.rolname, r.rolname)
        || CASE WHEN pg_catalog.bool_or(m.admin_option) THEN ' WITH ADMIN OPTION' ELSE '' END
      FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles o ON o.oid = m.roleid
        JOIN pg_catalog.pg_roles r ON r.oid = m.member
      WHERE r.rolname::text = ANY ($2::text[]) AND o.rolname::text = ANY ($2::text[])
        AND (r.rolname::text = ANY ($1::text[]) OR o.rolname::text = ANY ($1::text[]))
      GROUP BY o.rolname, r.rolname
      ORDER BY place, statement
      """, [SQL.array(missing), SQL.array(named)],
      doing: "reading the roles that are missing on the target", within: .seconds(30))
    return try rows.map { try $0.text("statement") }
  }

  /// Their settings in all databases.
  private static func settings(
    of missing: [String], on source: Connection
  ) async throws -> [(alter: String, name: String, value: String)] {
    let rows = try await source.query(
      """
      SELECT r.rolname, pg_catalog.split_part(e.entry, '=', 1) AS name,
        pg_catalog.substr(e.entry, pg_catalog.strpos(e.entry, '=') + 1) AS value
      FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
        CROSS JOIN pg_catalog.unnest(s.setconfig) AS e (entry)
      WHERE s.setdatabase = 0 AND r.rolname::text = ANY ($1::text[])
      """, [SQL.array(missing)], doing: "reading the settings of roles", within: .seconds(30))
    return try rows.map {
      ("ALTER ROLE \(SQL.identifier(try $0.text("rolname")))", try $0.text("name"), try $0.text("value"))
    }
  }
}
