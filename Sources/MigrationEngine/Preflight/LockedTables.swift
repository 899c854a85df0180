import LibPQ
import LogicalReplication

extension Preflight {
  /// Who has locked a table so that nobody can look at it.
  enum LockedTables {
    static func examine(_ source: Connection) async throws -> [Finding] {
      let rows = try await source.ask(
        """
        SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, l.pid, a.usename,
          a.application_name, pg_catalog.date_part('epoch',
            pg_catalog.clock_timestamp() - coalesce(a.xact_start, a.backend_start))::bigint AS age
        FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
          AND \(Catalog.isUserTable) ORDER BY 1 LIMIT 20
        """, about: "who has locked tables")
      return try rows.map { row in
        let pid = try row.optional("pid")
        let who =
          pid.map { "process \($0)" } ?? "a prepared transaction"
        let role = try row.optional("usename").map { " of role \(quotedIdentifier($0))" } ?? ""
        let application = try row.optional("application_name") ?? ""
        let named = application.isEmpty ? "" : " (\(application))"
        let age = try row.optional("age").map { ", for \($0) s" } ?? ""
        return Finding(
          .blocker, check: "locked_table", object: "table \(try row.text("name"))",
          why: "\(who)\(role)\(named) has locked it ACCESS EXCLUSIVE\(age): nobody can look at it meanwhile.",
          remedy: "Wait for its transaction to end"
            + (pid.map { ", or end it on the source: SELECT pg_terminate_backend(\($0));" } ?? "."))
      }
    }
  }

  /// Whether the limits of roles and databases let as many sessions in as a migration needs.
  enum ConnectionLimits {
    struct Facts: Sendable, Equatable {
      var role = "replicate"
      var database = "app"
      /// -1 is none.
      var roleLimit = -1
      var databaseLimit = -1
      /// Sessions of others that count for each.
      var ofRole = 0
      var ofDatabase = 0
      var isSuperuser = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      // The workers of a copy or a comparison, with what the engine and a command or two need beside them.
      let needed = context.options.jobs + 10
      return judge(
        context.source.end, try await facts(context.source), needed: needed)
        + judge(context.target.end, try await facts(context.target), needed: needed)
    }

    private static func facts(_ end: Connection) async throws -> Facts {
      let row = try await end.askOne(
        """
        SELECT r.rolname, r.rolconnlimit, r.rolsuper, d.datname, d.datconnlimit,
          (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
            WHERE a.usesysid = r.oid AND a.application_name !~ '^replicate ') AS of_role,
          (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
            WHERE a.datid = d.oid AND a.backend_type = 'client backend'
              AND a.application_name !~ '^replicate ') AS of_database
        FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
        WHERE r.rolname = session_user AND d.datname = pg_catalog.current_database()
        """, about: "the \(end.end)'s connection limits")
      return Facts(
        role: try row.text("rolname"), database: try row.text("datname"),
        roleLimit: try row.integer("rolconnlimit"), databaseLimit: try row.integer("datconnlimit"),
        ofRole: try row.integer("of_role"), ofDatabase: try row.integer("of_database"),
        isSuperuser: try row.bool("rolsuper"))
    }

    static func judge(_ end: String, _ facts: Facts, needed: Int) -> [Finding] {
      guard !facts.isSuperuser else { return [] }
      func finding(_ kind: String, _ name: String, _ limit: Int, _ used: Int) -> Finding? {
        guard limit >= 0, limit - used < needed else { return nil }
        return Finding(
          .blocker, check: "connection_limit",
          object: "\(end) \(kind.lowercased()) \(quotedIdentifier(name))",
          why: "Its limit is \(limit) sessions, others have \(used) of them; a migration needs \(needed).",
          remedy: "On the \(end): ALTER \(kind) \(quotedIdentifier(name)) CONNECTION LIMIT \(used + needed);")
      }
      return [
        finding("ROLE", facts.role, facts.roleLimit, facts.ofRole),
        finding("DATABASE", facts.database, facts.databaseLimit, facts.ofDatabase),
      ].compactMap { $0 }
    }
  }
}
