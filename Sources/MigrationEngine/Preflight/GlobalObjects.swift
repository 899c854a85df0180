import LibPQ
import LogicalReplication

extension Preflight {
  /// Roles that the source's objects name: they live outside the database, so pg_dump does not bring them.
  enum Roles {
    struct Named: Sendable, Equatable {
      var name: String
      var canLogin = false
      /// It owns something that is restored, so our role must be able to give things to it.
      var isOwner = false
    }

    enum OnTarget: Sendable, Equatable {
      case missing
      /// Whether our role may make it an object's owner.
      case present(mayOwn: Bool)
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let named = try await named(on: context.source, publication: context.publicationName)
      let target = context.target
      let mode = try await target.serverVersion() >= 160_000 ? "SET" : "MEMBER"
      let rows = try await target.ask(
        "SELECT rolname, pg_catalog.pg_has_role(oid, '\(mode)') AS may_own FROM pg_catalog.pg_roles",
        about: "the target's roles")
      var present: [String: Bool] = [:]
      for row in rows { present[try row.text("rolname")] = try row.bool("may_own") }
      let own = try await target.askOne("SELECT current_user AS name", about: "the target's role").text(
        "name")
      return named.compactMap { role in
        judge(role, present[role.name].map { .present(mayOwn: $0) } ?? .missing, ownRole: own)
      }
    }

    /// What this program itself makes on the source, which is never restored; `$1` is the publication.
    private static let ownObjects = """
      SELECT 'pg_catalog.pg_publication'::pg_catalog.regclass::oid, oid
      FROM pg_catalog.pg_publication WHERE pubname = $1
      UNION ALL SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid
      FROM pg_catalog.pg_namespace WHERE nspname = 'replicate'
      UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, oid
      FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.to_regnamespace('replicate')
      UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid
      FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.to_regnamespace('replicate')
      """

    /// From pg_shdepend, which knows all but the bootstrap superuser; owners are asked for besides. An
    /// extension and its members belong to whoever creates it on the target.
    private static func named(on source: Connection, publication: String) async throws -> [Named] {
      let rows = try await source.ask(
        """
        WITH named (role, is_owner) AS (
          SELECT d.refobjid, d.deptype = 'o' FROM pg_catalog.pg_shdepend d
          WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.deptype IN ('o', 'a', 'r')
            AND d.classid NOT IN ('pg_catalog.pg_subscription'::pg_catalog.regclass,
              'pg_catalog.pg_user_mapping'::pg_catalog.regclass,
              'pg_catalog.pg_extension'::pg_catalog.regclass)
            AND NOT (d.deptype = 'o' AND EXISTS (SELECT FROM pg_catalog.pg_depend e
              WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'))
            AND (d.classid, d.objid) NOT IN (\(ownObjects))
            AND d.dbid = (SELECT oid FROM pg_catalog.pg_database
              WHERE datname = pg_catalog.current_database())
          UNION ALL
          SELECT c.relowner, true
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE \(Catalog.isUserTable)
          UNION ALL
          SELECT p.proowner, true
          FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
          WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = p.oid
              AND e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
          UNION ALL
          SELECT n.nspowner, true FROM pg_catalog.pg_namespace n
          WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate', 'public')
          UNION ALL
          SELECT s.setrole, false
          FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
          WHERE d.datname = pg_catalog.current_database()
          UNION ALL
          SELECT a.grantee, false FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
          WHERE d.datname = pg_catalog.current_database() AND a.grantee <> d.datdba)
        SELECT r.rolname, r.rolcanlogin, pg_catalog.bool_or(named.is_owner) AS is_owner
        FROM named JOIN pg_catalog.pg_roles r ON r.oid = named.role
        WHERE r.rolname !~ '^(pg_|rds_|rds(admin|repladmin|topmgr|proxyadmin|writeforwarduser)$)'
        GROUP BY 1, 2 ORDER BY 1
        """, [publication], about: "the roles that the source's objects name")
      return try rows.map {
        Named(
          name: try $0.text("rolname"), canLogin: try $0.bool("rolcanlogin"), isOwner: try $0.bool("is_owner")
        )
      }
    }

    static func judge(_ role: Named, _ onTarget: OnTarget, ownRole: String) -> Finding? {
      let name = quotedIdentifier(role.name)
      switch onTarget {
      case .missing:
        return Finding(
          .blocker, check: "role", object: "role \(name)",
          why: role.isOwner
            ? "It owns objects of the source and is missing on the target."
            : "Grants or policies of the source name it, and it is missing on the target.",
          remedy: "On the target: CREATE ROLE \(name)\(role.canLogin ? " LOGIN" : "");")
      case .present(mayOwn: false) where role.isOwner:
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
