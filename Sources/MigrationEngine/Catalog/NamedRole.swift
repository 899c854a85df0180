package import LibPQ

/// A role of the source without which its objects, or those who use them, would not be what they are. Roles
/// live outside the database, so pg_dump does not bring them.
package struct NamedRole: Sendable, Equatable {
  package enum Part: Sendable {
    /// It owns something that is restored, so the target's role must be able to give things to it.
    case owner
    /// A grant, a policy or a setting is for it.
    case named
    /// It may log in, and is a member of one of the others.
    case member
  }

  package var name: String
  package var canLogin = false
  package var part = Part.named

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
  package static func read(from source: Connection, publication: String) async throws -> [NamedRole] {
    let rows = try await source.query(
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
      , roles (oid, is_owner) AS (
        SELECT role, pg_catalog.bool_or(is_owner) FROM named GROUP BY role)
      SELECT r.rolname, r.rolcanlogin, coalesce(roles.is_owner, false) AS is_owner,
        roles.oid IS NULL AS is_member
      FROM pg_catalog.pg_roles r LEFT JOIN roles ON roles.oid = r.oid
      WHERE r.rolname !~ '^(pg_|rds_|rds(admin|repladmin|topmgr|proxyadmin|writeforwarduser)$)'
        AND (roles.oid IS NOT NULL OR r.rolcanlogin AND NOT r.rolsuper AND NOT r.rolreplication
          AND EXISTS (SELECT FROM roles o WHERE pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER')))
      ORDER BY 1
      """, [publication], doing: "reading the roles that the source's objects name", within: .seconds(60))
    return try rows.map {
      NamedRole(
        name: try $0.text("rolname"), canLogin: try $0.bool("rolcanlogin"),
        part: try $0.bool("is_owner") ? .owner : try $0.bool("is_member") ? .member : .named)
    }
  }
}
