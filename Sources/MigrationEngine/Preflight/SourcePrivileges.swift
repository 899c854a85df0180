import LibPQ
import LogicalReplication

extension Preflight {
  /// What our role may do in the source's database, apart from its tables.
  enum SourcePrivileges {
    struct Facts: Sendable, Equatable {
      var role = "replicate"
      var database = "app"
      /// Superuser, REPLICATION, or member of Amazon's rds_replication.
      var mayReplicate = true
      /// Whether the server is one of Amazon's.
      var isRDS = false
      var mayCreate = true
      /// Whether it sees other roles' sessions.
      var readsAllStats = true
      /// Whether it owns the database, or is a member of the role that does.
      var ownsDatabase = true
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let row = try await context.source.askOne(
        """
        SELECT r.rolname, pg_catalog.current_database() AS database,
          r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles a
            WHERE a.rolname = 'rds_replication' AND pg_catalog.pg_has_role(a.oid, 'USAGE')) AS replicates,
          EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_superuser') AS is_rds,
          pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS creates,
          pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS reads_stats,
          (SELECT pg_catalog.pg_has_role(d.datdba, 'USAGE') FROM pg_catalog.pg_database d
            WHERE d.datname = pg_catalog.current_database()) AS owns
        FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
        """, about: "the source role's privileges")
      return judge(
        Facts(
          role: try row.text("rolname"), database: try row.text("database"),
          mayReplicate: try row.bool("replicates"), isRDS: try row.bool("is_rds"),
          mayCreate: try row.bool("creates"), readsAllStats: try row.bool("reads_stats"),
          ownsDatabase: try row.bool("owns")))
    }

    static func judge(_ facts: Facts) -> [Finding] {
      let role = quotedIdentifier(facts.role)
      var findings: [Finding] = []
      if !facts.mayReplicate {
        let grant = facts.isRDS ? "GRANT rds_replication TO \(role);" : "ALTER ROLE \(role) REPLICATION;"
        let other = facts.isRDS ? "" : " (Amazon Aurora and RDS: GRANT rds_replication TO \(role);)"
        findings.append(
          Finding(
            .blocker, check: "source_privileges", object: "source role \(role)",
            why: "The role may not replicate: it cannot create a replication slot.", remedy: grant + other))
      }
      if !facts.mayCreate {
        let database = quotedIdentifier(facts.database)
        findings.append(
          Finding(
            .blocker, check: "source_privileges", object: "source database \(database)",
            why:
              "Role \(role) may not create in the database: neither the publication nor the fence's schema.",
            remedy: "GRANT CREATE ON DATABASE \(database) TO \(role);"))
      }
      if !facts.readsAllStats {
        findings.append(
          Finding(
            .warning, check: "source_privileges", object: "source role \(role)",
            why:
              "The role does not see other roles' sessions: long transactions cannot be found, and who "
              + "holds "
              + "up the fence cannot be named.",
            remedy: "GRANT pg_read_all_stats TO \(role);"))
      }
      if !facts.ownsDatabase {
        let database = quotedIdentifier(facts.database)
        findings.append(
          Finding(
            .note, check: "second_belt", object: "source database \(database)",
            why:
              "Only the database's owner may set default_transaction_read_only on it. Without that new "
              + "sessions on the old database are refused only at their first write.",
            remedy: "Nothing to do; or ALTER DATABASE \(database) OWNER TO \(role);"))
      }
      return findings
    }
  }

  /// Whether our role may publish, fence and read everything to be migrated.
  enum SourceOwnership {
    /// Something that our role lacks a privilege on, with the command that grants it.
    struct Lack: Sendable, Equatable {
      var kind: String
      var name: String
      var why: String
      var remedy: String
      var severity = Finding.Severity.blocker
    }

    struct ForeignTable: Sendable, Equatable {
      var name: RelationName
      var owner: String
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let role = try await context.source.askOne("SELECT current_user AS name", about: "the source's role")
        .text("name")
      let rows = try await context.source.ask(
        """
        SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner) AS owner
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE \(Catalog.isUserTable) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
        ORDER BY 3, 1, 2
        """, about: "who owns the source's tables")
      let migrated = Set(context.migrated.map(\.name))
      let foreign = try rows.map {
        ForeignTable(
          name: RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")),
          owner: try $0.text("owner"))
      }
      return judge(foreign.filter { migrated.contains($0.name) }, role: role)
        + (try await lacks(context.source, role: role)).map(judge)
    }

    /// One finding per owner: the remedy is the same for all of the owner's tables.
    static func judge(_ tables: [ForeignTable], role: String) -> [Finding] {
      Dictionary(grouping: tables, by: \.owner).sorted { $0.key < $1.key }.map { owner, tables in
        Finding(
          .blocker, check: "source_ownership", object: NameList.of("table", tables.map(\.name.description)),
          why:
            "They belong to role \(quotedIdentifier(owner)); only a table's owner may publish it and put the "
            + "fence's trigger on it.",
          remedy: "GRANT \(quotedIdentifier(owner)) TO \(quotedIdentifier(role));")
      }
    }

    static func judge(_ lack: Lack) -> Finding {
      Finding(
        lack.severity, check: "source_privileges", object: "\(lack.kind) \(lack.name)", why: lack.why,
        remedy: lack.remedy)
    }

    /// pg_dump locks every table, reads every sequence, and refuses rows that a policy hides.
    private static func lacks(_ source: Connection, role: String) async throws -> [Lack] {
      let rows = try await source.ask(
        """
        SELECT 'schema' AS kind, n.nspname AS schema, NULL AS name, NULL AS owner
        FROM pg_catalog.pg_namespace n
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
          AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
          -- Of extensions, which bring their own.
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = n.oid
            AND e.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass)
          AND NOT (EXISTS (SELECT FROM pg_catalog.pg_extension x WHERE x.extnamespace = n.oid)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype IN ('e', 'i', 'a')
                AND e.objid = c.oid AND e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)))
        UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'm' THEN 'materialized view' ELSE 'table' END,
          n.nspname, c.relname, NULL
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'S', 'm') AND c.relpersistence <> 't'
          AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
            WHERE e.deptype = 'e' AND e.objid = c.oid
              AND e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
          AND NOT CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
            ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END
        UNION ALL
        SELECT 'view', n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'm' AND n.nspname !~ '^pg_' AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
        UNION ALL
        SELECT 'policy', n.nspname, c.relname, NULL
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE \(Catalog.isUserTable) AND pg_catalog.row_security_active(c.oid)
        ORDER BY 1, 2, 3
        """, about: "what the source's role may read")
      return try rows.map {
        lack(
          kind: try $0.text("kind"), schema: try $0.text("schema"), name: try $0.optional("name"),
          owner: try $0.optional("owner"), role: quotedIdentifier(role))
      }
    }

    static func lack(
      kind: String, schema: String, name: String?, owner: String? = nil, role: String
    ) -> Lack {
      let object = name.map { quotedIdentifier(schema: schema, name: $0) } ?? quotedIdentifier(schema)
      if kind == "policy" {
        return Lack(
          kind: "table", name: object,
          why: "Row-level security hides rows of it from role \(role): the copy would not be complete.",
          remedy: "ALTER ROLE \(role) BYPASSRLS;")
      }
      if kind == "view" {
        return Lack(
          kind: "materialized view", name: object,
          why: "Only members of its owner's role may refresh it: a rollback leaves it as it is.",
          remedy: "GRANT \(quotedIdentifier(owner ?? "")) TO \(role);", severity: .note)
      }
      if kind == "materialized view" {
        return Lack(
          kind: kind, name: object,
          why: "Role \(role) lacks SELECT on it: it is not compared with what the target computes.",
          remedy: "GRANT SELECT ON TABLE \(object) TO \(role);", severity: .warning)
      }
      let privilege = kind == "schema" ? "USAGE" : "SELECT"
      return Lack(
        kind: kind, name: object,
        why: "Role \(role) lacks \(privilege) on it: it can be neither dumped nor read.",
        remedy: "GRANT \(privilege) ON \(kind.uppercased()) \(object) TO \(role);")
    }
  }

  /// Names of many objects for one finding.
  enum NameList {
    private static let shown = 5

    /// `table "a"."b"`, `7 tables: …, and 2 more`.
    static func of(_ noun: String, _ names: [String]) -> String {
      if names.count == 1, let name = names.first { return "\(noun) \(name)" }
      let rest = names.count - shown
      let list = names.prefix(shown).joined(separator: ", ")
      return "\(names.count) \(noun)s: \(list)" + (rest > 0 ? ", and \(rest) more" : "")
    }
  }
}
