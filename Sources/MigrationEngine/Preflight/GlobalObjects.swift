import LibPQ
import LogicalReplication

extension Preflight {
  /// Roles that the source's objects name: they live outside the database, so pg_dump does not bring them.
  enum Roles {
    enum OnTarget: Sendable, Equatable {
      case missing
      /// Whether our role may make it an object's owner.
      case present(mayOwn: Bool)
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let named = try await NamedRole.read(from: context.source, publication: context.names.publication)
      let target = context.target
      let mode = try await target.has(.membershipOptions) ? "SET" : "MEMBER"
      let rows = try await target.ask(
        "SELECT rolname, pg_catalog.pg_has_role(oid, '\(mode)') AS may_own FROM pg_catalog.pg_roles",
        about: "the target's roles")
      var present: [String: Bool] = [:]
      for row in rows { present[try row.text("rolname")] = try row.bool("may_own") }
      let own = try await target.askOne(
        """
        SELECT current_user AS name, rolcreaterole OR rolsuper AS may_create
        FROM pg_catalog.pg_roles WHERE rolname = current_user
        """, about: "the target's role")
      let creation: Creation =
        !context.options.createsRoles ? .notAsked : try own.bool("may_create") ? .possible : .refused
      let ownName = try own.text("name")
      return named.compactMap { role in
        judge(
          role, present[role.name].map { .present(mayOwn: $0) } ?? .missing, ownRole: ownName,
          creation: creation)
      }
    }

    /// Whether `--create-roles` makes what is missing.
    enum Creation: Sendable { case notAsked, possible, refused }

    static func judge(
      _ role: NamedRole, _ onTarget: OnTarget, ownRole: String, creation: Creation = .notAsked
    ) -> Finding? {
      let name = quotedIdentifier(role.name)
      switch onTarget {
      case .missing where creation == .possible:
        return Finding(
          .note, check: "role", object: "role \(name)",
          why: "It is missing on the target and will be made, without a password, as --create-roles asks.",
          remedy: role.canLogin
            ? "After that, on the target: ALTER ROLE \(name) PASSWORD '…';" : "Nothing to do.")
      case .missing:
        let why =
          switch role.part {
          case .owner: "It owns objects of the source and is missing on the target."
          case .named: "Grants or policies of the source name it, and it is missing on the target."
          case .ofDatabase:
            "A privilege or a setting of the source's database is for it; the target lacks it, and goes "
              + "without them."
          case .member:
            "It may log in as a member of a role that the source's objects name; the target lacks it."
          }
        let create = "On the target: CREATE ROLE \(name)\(role.canLogin ? " LOGIN" : "");"
        let other =
          creation == .refused
          ? " Role \(quotedIdentifier(ownRole)) may not: ALTER ROLE \(quotedIdentifier(ownRole)) CREATEROLE;"
          : " Or give --create-roles."
        return Finding(
          [.member, .ofDatabase].contains(role.part) ? .warning : .blocker, check: "role",
          object: "role \(name)", why: why, remedy: create + other)
      case .present(mayOwn: false) where role.part == .owner:
        return Finding(
          .blocker, check: "role", object: "role \(name)",
          why:
            "It owns objects of the source; the target's role \(quotedIdentifier(ownRole)) may not give "
            + "objects to it.",
          remedy: "On the target: GRANT \(name) TO \(quotedIdentifier(ownRole));")
      case .present:
        return nil
      }
    }
  }

  /// Tablespaces that the source's objects lie in.
  enum Tablespaces {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let used = try await context.source.ask(
        """
        SELECT DISTINCT t.spcname
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE t.spcname !~ '^pg_' AND n.nspname !~ '^pg_' AND c.relpersistence <> 't' ORDER BY 1
        """, about: "the source's tablespaces")
      guard !used.isEmpty else { return [] }
      let present = try await context.target.ask(
        "SELECT spcname FROM pg_catalog.pg_tablespace", about: "the target's tablespaces")
      let names = Set(try present.map { try $0.text("spcname") })
      return try used.map { try $0.text("spcname") }.filter { !names.contains($0) }.map(judge)
    }

    static func judge(missing name: String) -> Finding {
      Finding(
        .blocker, check: "tablespace", object: "tablespace \(quotedIdentifier(name))",
        why: "Objects of the source lie in it, and it is missing on the target.",
        remedy:
          "On the target: CREATE TABLESPACE \(quotedIdentifier(name)) LOCATION '…'; with a directory on "
          + "encrypted "
          + "storage.")
    }
  }
}
