import LibPQ
import LogicalReplication

extension Preflight {
  /// What our role may do on the target.
  enum TargetPrivileges {
    struct Facts: Sendable, Equatable {
      var role = "replicate"
      var database = "app"
      /// Major version.
      var version = 17
      var isRDS = false
      var mayCreate = true
      /// The server's error when setting the replica role; nil: none.
      var replicaRoleRefusal: String?
      /// nil: the target has no schema public, or the source's is empty.
      var mayCreateInPublic: Bool?
      /// Properties of the source's database that only the target database's owner may set; empty when our
      /// role may.
      var refusedProperties: [String] = []
      /// Owners of objects in a schema where they lack CREATE on the target. Only a superuser could make them
      /// owners there.
      var strangers: [Stranger] = []
    }

    struct Stranger: Sendable, Equatable {
      var owner: String
      var schema: String
      /// Who will own the schema.
      var schemaOwner: String
      /// Not on the target yet: `--create-roles` would create it, without any grant.
      var isMissing = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let target = context.target
      let row = try await target.askOne(
        """
        SELECT current_user AS role, pg_catalog.current_database() AS database,
          EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_superuser') AS is_rds,
          pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS creates,
          (SELECT pg_catalog.pg_has_role(d.datdba, 'USAGE') FROM pg_catalog.pg_database d
            WHERE d.datname = pg_catalog.current_database()) AS is_owner,
          (SELECT pg_catalog.has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n
            WHERE n.nspname = 'public') AS creates_in_public
        """, about: "the target role's privileges")
      let usesPublic = context.catalog.relations.contains { $0.name.schema == "public" }
      let mayCreateInPublic = try row.optional("creates_in_public").map { $0 == "t" }
      return judge(
        Facts(
          role: try row.text("role"), database: try row.text("database"),
          version: try await target.serverVersion() / 10_000, isRDS: try row.bool("is_rds"),
          mayCreate: try row.bool("creates"), replicaRoleRefusal: try await replicaRoleRefusal(target),
          mayCreateInPublic: usesPublic ? mayCreateInPublic : nil,
          refusedProperties: try row.bool("is_owner") ? [] : try await properties(context.source),
          strangers: try await strangers(context)))
    }

    /// The source database's own properties.
    private static func properties(_ source: Connection) async throws -> [String] {
      let row = try await source.askOne(
        """
        SELECT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = d.oid) AS settings,
          d.datacl IS NOT NULL AS privileges,
          pg_catalog.shobj_description(d.oid, 'pg_database') IS NOT NULL AS comment
        FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
        """, about: "the source database's own properties")
      return try ["settings", "privileges", "comment"].filter { try row.bool($0) }
    }

    /// pg_restore gives each object to its owner, who then needs CREATE on the schema, unless a superuser
    /// does it. A schema's grants come last, so only members of its owner's role have it.
    private static func strangers(_ context: PreflightContext) async throws -> [Stranger] {
      let own = try await context.target.askOne(
        "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", about: "the target's role")
      guard try !own.bool("rolsuper") else { return [] }
      let rows = try await context.source.ask(
        """
        SELECT DISTINCT o.rolname AS owner, n.nspname AS schema, s.rolname AS schema_owner
        FROM (SELECT tableoid, oid, relowner AS owner, relnamespace AS namespace FROM pg_catalog.pg_class
            WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
          -- Of a composite type, the type is what belongs to an extension.
          UNION ALL SELECT t.tableoid, t.oid, t.typowner, t.typnamespace FROM pg_catalog.pg_type t
            JOIN pg_catalog.pg_class c ON c.oid = t.typrelid WHERE c.relkind = 'c'
          UNION ALL SELECT tableoid, oid, proowner, pronamespace FROM pg_catalog.pg_proc
          UNION ALL SELECT tableoid, oid, typowner, typnamespace FROM pg_catalog.pg_type
            WHERE typtype IN ('e', 'd', 'r')) x
          JOIN pg_catalog.pg_namespace n ON n.oid = x.namespace
          JOIN pg_catalog.pg_roles o ON o.oid = x.owner
          JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
          AND (o.oid <> s.oid OR n.nspname = 'public')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
            WHERE e.classid = x.tableoid AND e.objid = x.oid AND e.deptype = 'e')
        ORDER BY 2, 1
        """, about: "the owners of the source's objects")
      return try await strangers(
        among: rows.map {
          Stranger(
            owner: try $0.text("owner"), schema: try $0.text("schema"),
            schemaOwner: try $0.text("schema_owner"))
        }, on: context)
    }

    private static func strangers(
      among owners: [Stranger], on context: PreflightContext
    ) async throws -> [Stranger] {
      var strangers: [Stranger] = []
      for var owner in owners {
        let roles = try await context.target.ask(
          "SELECT oid FROM pg_catalog.pg_roles WHERE rolname = \(SQL.literal(owner.owner))",
          about: "role \(quotedIdentifier(owner.owner)) of the target")
        owner.isMissing = roles.isEmpty
        if try await lacksCreate(owner, context) { strangers.append(owner) }
      }
      return strangers
    }

    private static func lacksCreate(_ owner: Stranger, _ context: PreflightContext) async throws -> Bool {
      let role = SQL.literal(owner.owner)
      let schemaOwner = SQL.literal(owner.schemaOwner)
      let (connection, condition) =
        switch (owner.isMissing, owner.schema == "public") {
        case (false, true):
          (context.target, "pg_catalog.has_schema_privilege(\(role), 'public', 'CREATE')")
        case (true, true): (context.target, "pg_catalog.has_schema_privilege('public', 'public', 'CREATE')")
        // A missing schema owner is a separate finding.
        case (false, false):
          (
            context.target,
            """
            NOT EXISTS (SELECT FROM pg_catalog.pg_roles s WHERE s.rolname = \(schemaOwner)
              AND NOT pg_catalog.pg_has_role(\(role), s.oid, 'USAGE'))
            """
          )
        // Created with the memberships that it has on the source.
        case (true, false): (context.source, "pg_catalog.pg_has_role(\(role), \(schemaOwner), 'USAGE')")
        }
      let row = try await connection.askOne(
        "SELECT \(condition) AS may_create", about: "what role \(quotedIdentifier(owner.owner)) may do")
      return try !row.bool("may_create")
    }

    /// Found out by trying: Amazon's rds_superuser may set it although no catalog says so.
    private static func replicaRoleRefusal(_ target: Connection) async throws -> String? {
      try await target.query("BEGIN", doing: "examining the replica role", within: .seconds(30))
      do {
        try await target.query(
          "SET LOCAL session_replication_role = replica", doing: "examining the replica role",
          within: .seconds(30))
        await target.rollback()
        return nil
      } catch let error as PostgresError where error.sqlState == .insufficientPrivilege {
        await target.rollback()
        return error.message
      } catch {
        await target.rollback()
        throw error
      }
    }

    static func judge(_ facts: Facts) -> [Finding] {
      let role = quotedIdentifier(facts.role)
      let database = quotedIdentifier(facts.database)
      var findings: [Finding] = []
      func block(_ object: String, _ why: String, _ remedy: String) {
        findings.append(
          Finding(.blocker, check: "target_privileges", object: object, why: why, remedy: remedy))
      }
      if !facts.mayCreate {
        block(
          "target database \(database)", "Role \(role) may not create schemas in the database.",
          "GRANT CREATE ON DATABASE \(database) TO \(role);")
      }
      if facts.mayCreateInPublic == false {
        block(
          "target schema \"public\"",
          "Role \(role) may not create in schema public, where the source has tables.",
          "GRANT CREATE ON SCHEMA public TO \(role);")
      }
      if !facts.refusedProperties.isEmpty {
        findings.append(
          Finding(
            .warning, check: "database_properties", object: "target database \(database)",
            why:
              "The source's database has \(facts.refusedProperties.joined(separator: ", ")) of its own: only "
              + "the target database's owner may give it these.",
            remedy: "ALTER DATABASE \(database) OWNER TO \(role); or give it them by hand before the cutover."
          ))
      }
      for stranger in facts.strangers {
        let owner = quotedIdentifier(stranger.owner)
        let schema = quotedIdentifier(stranger.schema)
        let make = stranger.isMissing ? "CREATE ROLE \(owner); " : ""
        let schemaOwner = quotedIdentifier(stranger.schemaOwner)
        block(
          "target role \(owner)",
          "It owns objects in schema \(schema) of the source and may not create there on the target, so role "
            + "\(role), which is no superuser, cannot give them to it.",
          stranger.schema == "public"
            ? "\(make)GRANT CREATE ON SCHEMA public TO \(owner);"
            : "\(make)GRANT \(schemaOwner) TO \(owner); until the migration is over."
        )
      }
      if let refusal = facts.replicaRoleRefusal {
        block(
          "target role \(role)",
          "The role may not set session_replication_role, which keeps triggers from firing twice: \(refusal)",
          replicaRoleRemedy(facts, role))
      }
      return findings
    }

    private static func replicaRoleRemedy(_ facts: Facts, _ role: String) -> String {
      if facts.isRDS { return "GRANT rds_superuser TO \(role);" }
      let grant =
        facts.version >= 15
        ? "GRANT SET ON PARAMETER session_replication_role TO \(role);" : "ALTER ROLE \(role) SUPERUSER;"
      return "\(grant) (Amazon Aurora and RDS: GRANT rds_superuser TO \(role);)"
    }
  }
}
