import LibPQ
import LogicalReplication

/// That a role is a member of another. Like roles themselves, it is outside the database.
struct RoleMembership: Sendable, Hashable, Comparable {
  var member: String
  /// The role that it is a member of.
  var group: String
  /// Whether the member may make others members.
  var isAdmin = false

  /// The statement that grants it.
  var grant: String {
    "GRANT \(SQL.identifier(group)) TO \(SQL.identifier(member))\(isAdmin ? " WITH ADMIN OPTION" : "");"
  }

  static func < (left: Self, right: Self) -> Bool {
    (left.member, left.group) < (right.member, right.group)
  }

  /// Those of the given members, in whatever role: predefined ones and a provider's as well. A superuser's
  /// give it nothing.
  static func read(of members: [String], on end: Connection) async throws -> [RoleMembership] {
    let rows = try await end.query(
      """
      SELECT r.rolname AS member, o.rolname AS of, pg_catalog.bool_or(m.admin_option) AS is_admin
      FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles o ON o.oid = m.roleid
        JOIN pg_catalog.pg_roles r ON r.oid = m.member
      WHERE r.rolname::text = ANY ($1::text[]) AND NOT r.rolsuper GROUP BY 1, 2 ORDER BY 1, 2
      """, [SQL.array(members)], doing: "reading the memberships of roles on the \(end.end)",
      within: .seconds(30))
    return try rows.map {
      RoleMembership(
        member: try $0.text("member"), group: try $0.text("of"), isAdmin: try $0.bool("is_admin"))
    }
  }
}

/// What the receiving end lacks of the memberships of roles that objects name.
struct MissingMemberships: Sendable {
  /// One of them, and what the receiving end has of it.
  struct One: Sendable, Equatable {
    var membership: RoleMembership
    var hasMember = true
    var hasGroup = true
    /// Whether our role may grant it there.
    var isGrantable = true
    /// Of a role that the migration runs as: some of its memberships are for the migration alone.
    var isOurs = false
  }

  /// Missing on the receiving end.
  var missing: [One] = []
  /// Only there.
  var extra: [RoleMembership] = []

  /// - Parameters:
  ///   - from: where users are.
  ///   - publication: the migration's own, on that end.
  static func find(from: Connection, to: Connection, publication: String) async throws -> MissingMemberships {
    let named = try await NamedRole.read(from: from, publication: publication)
    let ours = [try await role(from), try await role(to)]
    // Ours has been given what the migration needs; it may be the application's as well.
    let members = named.filter { !ours.contains($0.name) || $0.part == .owner }.map(\.name)
    let wanted = try await RoleMembership.read(of: members, on: from)
    let present = try await RoleMembership.read(of: members, on: to)
    let there = Dictionary(
      present.map { (Pair($0), $0.isAdmin) }, uniquingKeysWith: { first, _ in first })
    let known = try await Target.read(from: to)
    var found = MissingMemberships()
    for membership in wanted {
      let isAdmin = there[Pair(membership)]
      if isAdmin == nil || membership.isAdmin && isAdmin == false {
        var one = known.judge(membership)
        one.isOurs = ours.contains(membership.member)
        found.missing.append(one)
      }
    }
    let pairs = Set(wanted.map(Pair.init))
    found.extra = present.filter { !pairs.contains(Pair($0)) && !ours.contains($0.member) }
    return found
  }

  private struct Pair: Hashable {
    var member: String
    var group: String

    init(_ membership: RoleMembership) { (member, group) = (membership.member, membership.group) }
  }

  private static func role(_ end: Connection) async throws -> String {
    try await end.query(
      "SELECT CURRENT_USER AS role", doing: "asking the \(end.end) for our role", within: .seconds(15)
    ).first?.text("role") ?? ""
  }

  /// The roles of the receiving end, and which of them ours may make others members of.
  private struct Target {
    var grantable: [String: Bool]

    static func read(from end: Connection) async throws -> Target {
      // From 16 on, CREATEROLE alone is not enough.
      let creates = try await end.has(.membershipOptions) ? "false" : "u.rolcreaterole AND NOT r.rolsuper"
      let rows = try await end.query(
        """
        SELECT r.rolname, u.rolsuper OR \(creates)
          OR pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') AS is_grantable
        FROM pg_catalog.pg_roles r, pg_catalog.pg_roles u WHERE u.rolname = CURRENT_USER
        """, doing: "asking the \(end.end) which memberships our role may grant", within: .seconds(30))
      var target = Target(grantable: [:])
      for row in rows {
        target.grantable[try row.text("rolname")] = try row.bool("is_grantable")
      }
      return target
    }

    func judge(_ membership: RoleMembership) -> One {
      One(
        membership: membership, hasMember: grantable[membership.member] != nil,
        hasGroup: grantable[membership.group] != nil, isGrantable: grantable[membership.group] ?? false)
    }
  }

  // MARK: As differences of the schemas

  /// - Parameter direction: that writes go, or will go. What only the receiving end has may be intended, and
  ///   what it cannot have is named by preflight.
  func differences(_ direction: Direction) -> [VerificationReport.ObjectDifference] {
    missing.map { one in
      Self.difference(
        one.membership, "is missing on the \(direction.to)",
        isExpected: !one.hasGroup || !one.hasMember || one.isOurs,
        remedy: .init(end: direction.to, sql: one.membership.grant))
    }
      + extra.map { Self.difference($0, "is only on the \(direction.to)", isExpected: true) }
  }

  private static func difference(
    _ membership: RoleMembership, _ words: String, isExpected: Bool,
    remedy: VerificationReport.ObjectDifference.Remedy? = nil
  ) -> VerificationReport.ObjectDifference {
    let option = membership.isAdmin ? " WITH ADMIN OPTION" : ""
    let name =
      "membership of role \(SQL.words(membership.member)) in role \(SQL.words(membership.group))\(option)"
    return VerificationReport.ObjectDifference(
      kind: "membership", object: name, name: name, words: "\(name) \(words)", isExpected: isExpected,
      remedy: remedy)
  }
}
