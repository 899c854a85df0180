import LibPQ

/// A role of the source that its objects or their users need. Roles are outside the database, so pg_dump does
/// not include them.
struct NamedRole: Sendable, Equatable {
  enum Part: Sendable {
    /// It owns something that is restored, so the target's role must be able to make it an owner.
    case owner
    /// A grant, a policy or a setting is for it.
    case named
    /// A privilege or setting of the database itself is for it, and no restored object refers to it.
    case ofDatabase
    /// It may log in, and is a member of one of the others.
    case member
  }

  var name: String
  var canLogin = false
  var part = Part.named

  /// This program's own objects on the source, which are never restored; `$1` is the publication.
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

  /// From pg_shdepend, which has all but the bootstrap superuser; owners are read separately. An extension
  /// and its members belong to the role that creates it on the target.
  static func read(from source: Connection, publication: String) async throws -> [NamedRole] {
    let rows = try await source.query(
      """
      WITH named (role, is_owner, is_of_database) AS (
        -- Who has a user mapping is not its owner, though the catalog says so.
        SELECT d.refobjid,
          d.deptype = 'o' AND d.classid <> 'pg_catalog.pg_user_mapping'::pg_catalog.regclass, false
        FROM pg_catalog.pg_shdepend d
        WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.deptype IN ('o', 'a', 'r')
          AND d.classid NOT IN ('pg_catalog.pg_subscription'::pg_catalog.regclass,
            'pg_catalog.pg_extension'::pg_catalog.regclass)
          AND NOT (d.deptype = 'o' AND EXISTS (SELECT FROM pg_catalog.pg_depend e
            WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'))
          AND (d.classid, d.objid) NOT IN (\(ownObjects))
          AND d.dbid = (SELECT oid FROM pg_catalog.pg_database
            WHERE datname = pg_catalog.current_database())
        UNION ALL
        SELECT c.relowner, true, false
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE \(Catalog.isUserTable)
        UNION ALL
        SELECT p.proowner, true, false
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = p.oid
            AND e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
        UNION ALL
        SELECT n.nspowner, true, false FROM pg_catalog.pg_namespace n
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate', 'public')
        UNION ALL
        SELECT s.setrole, false, true
        FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
        WHERE d.datname = pg_catalog.current_database()
        UNION ALL
        -- Our own role has been given there what it needs there.
        SELECT a.grantee, false, true FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
        WHERE d.datname = pg_catalog.current_database() AND a.grantee <> d.datdba
          AND a.grantee <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER))
      , roles (oid, is_owner, is_of_database) AS (
        SELECT role, pg_catalog.bool_or(is_owner), pg_catalog.bool_and(is_of_database)
        FROM named GROUP BY role)
      SELECT r.rolname, r.rolcanlogin, coalesce(roles.is_owner, false) AS is_owner,
        roles.oid IS NULL AS is_member, coalesce(roles.is_of_database, false) AS is_of_database
      FROM pg_catalog.pg_roles r LEFT JOIN roles ON roles.oid = r.oid
      WHERE r.rolname !~ '^(pg_|rds_|rds(admin|repladmin|topmgr|proxyadmin|writeforwarduser)$)'
        AND (roles.oid IS NOT NULL OR r.rolcanlogin AND NOT r.rolsuper AND NOT r.rolreplication
          AND EXISTS (SELECT FROM roles o WHERE pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER')))
      ORDER BY 1
      """, [publication], doing: "reading the roles that the source's objects name", within: .seconds(60))
    return try rows.map { row in
      let part: Part =
        if try row.bool("is_owner") {
          .owner
        } else if try row.bool("is_member") {
          .member
        } else {
          try row.bool("is_of_database") ? .ofDatabase : .named
        }
      return NamedRole(name: try row.text("rolname"), canLogin: try row.bool("rolcanlogin"), part: part)
    }
  }
}
