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
      /// What the server says when the replica role is asked for; nil: it agrees.
      var replicaRoleRefusal: String?
      /// nil: there is no schema public on the target, or the source has nothing in its own.
      var mayCreateInPublic: Bool?
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let target = context.target
      let row = try await target.askOne(
        """
        SELECT current_user AS role, pg_catalog.current_database() AS database,
          EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_superuser') AS is_rds,
          pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS creates,
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
          mayCreateInPublic: usesPublic ? mayCreateInPublic : nil))
    }

    /// Asked by doing it: Amazon's rds_superuser may set it though no catalog says so.
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
