import LibPQ
import LogicalReplication

extension Preflight {
  /// Memberships of the roles that the source's objects name, in each other and in any other role: a login
  /// by IAM hangs on one, and the right to read all data.
  enum Memberships {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let found = try await MissingMemberships.find(
        from: context.source, to: context.target, publication: context.names.publication)
      let named = try await NamedRole.read(from: context.source, publication: context.names.publication)
      let row = try await context.target.askOne(
        """
        SELECT rolcreaterole OR rolsuper AS may_create
        FROM pg_catalog.pg_roles WHERE rolname = current_user
        """, about: "the target's role")
      let creates = try context.options.createsRoles && row.bool("may_create")
      return judge(found.missing, made: creates ? Set(named.map(\.name)) : [])
    }

    /// - Parameter made: the roles that `--create-roles` makes where the target lacks them.
    static func judge(_ missing: [MissingMemberships.One], made: Set<String>) -> [Finding] {
      missing.compactMap { one in
        let membership = one.membership
        let group = quotedIdentifier(membership.group)
        let willHaveGroup = one.hasGroup || made.contains(membership.group)
        func finding(_ severity: Finding.Severity, _ why: String, _ remedy: String) -> Finding {
          Finding(
            severity, check: "membership", object: "role \(quotedIdentifier(membership.member))", why: why,
            remedy: remedy)
        }
        let severity = one.isOurs ? Finding.Severity.note : .warning
        // That the role itself is missing is another finding.
        if !one.hasMember, !made.contains(membership.member) { return nil }
        guard willHaveGroup else {
          return finding(
            severity, "On the source it is a member of role \(group), which the target's server lacks.",
            "If it needs that on the target: CREATE ROLE \(group); \(membership.grant) Of a provider's or a "
              + "predefined role, see what takes its place there.")
        }
        if !one.hasMember, one.isGrantable || made.contains(membership.group) && !one.hasGroup {
          return finding(
            .note, "It will be made a member of role \(group), as --create-roles asks.", "Nothing to do.")
        }
        let mayNot = one.isGrantable ? "" : " Our role may not grant that."
        return finding(
          severity, "On the source it is a member of role \(group), and not on the target.\(mayNot)",
          one.hasMember
            ? "On the target: \(membership.grant)"
            : "On the target, as a role that may, once start has made it: \(membership.grant)")
      }
    }
  }
}
