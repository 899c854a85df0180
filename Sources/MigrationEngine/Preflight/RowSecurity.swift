import LibPQ
import LogicalReplication

extension Preflight {
  /// Whether row-level security will apply to our role on the target. The source shows what applies now.
  enum TargetRowSecurity {
    struct Table: Sendable, Equatable {
      var name: RelationName
      var owner: String
      /// Whether policies apply to the owner as well.
      var isForced: Bool
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let own = try await context.target.askOne(
        """
        SELECT rolname, rolsuper OR rolbypassrls AS passes
        FROM pg_catalog.pg_roles WHERE rolname = current_user
        """,
        about: "whether row-level security binds the target's role")
      guard try !own.bool("passes") else { return [] }
      let rows = try await context.source.ask(
        """
        SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner) AS owner, c.relforcerowsecurity
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE \(Catalog.isUserTable) AND c.relrowsecurity ORDER BY 1, 2
        """, about: "which of the source's tables have row-level security")
      let migrated = Set(context.migrated.map(\.name))
      let tables = try rows.map {
        Table(
          name: RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")),
          owner: try $0.text("owner"), isForced: try $0.bool("relforcerowsecurity"))
      }.filter { migrated.contains($0.name) }
      // Missing owners are created with our role as a member.
      let foreign = try await context.target.ask(
        """
        SELECT rolname FROM pg_catalog.pg_roles
        WHERE rolname::text = ANY ($1::text[]) AND NOT pg_catalog.pg_has_role(oid, 'USAGE')
        """, [SQL.array(Array(Set(tables.map(\.owner))))], about: "the owners of tables on the target")
      let strangers = Set(try foreign.map { try $0.text("rolname") })
      return judge(
        tables.filter { $0.isForced || strangers.contains($0.owner) }, role: try own.text("rolname"))
    }

    static func judge(_ tables: [Table], role: String) -> [Finding] {
      guard !tables.isEmpty else { return [] }
      let names = tables.map(\.name.description)
      let instead = names.map { "ALTER TABLE \($0) NO FORCE ROW LEVEL SECURITY;" }.joined(separator: " ")
      return [
        Finding(
          .blocker, check: "target_row_security", object: NameList.of("table", names),
          why: "On the target row-level security will bind role \(quotedIdentifier(role)), and refuse the "
            + "first change that the stream brings.",
          remedy:
            "ALTER ROLE \(quotedIdentifier(role)) BYPASSRLS; (Where nobody may give that, on the source "
            + "until the migration is complete: \(instead))")
      ]
    }
  }

  /// Whether an end's commits wait for a missing standby.
  enum SynchronousStandbys {
    struct Facts: Sendable, Equatable {
      /// `synchronous_standby_names`; empty: no commit waits.
      var names = ""
      /// The standbys that commits wait for now.
      var count = 0
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      var findings: [Finding] = []
      for end in [context.source, context.target] {
        let row = try await end.askOne(
          """
          SELECT pg_catalog.current_setting('synchronous_standby_names') AS names,
            pg_catalog.count(*) AS every, pg_catalog.count(sync_state) AS seen,
            pg_catalog.count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS present
          FROM pg_catalog.pg_stat_replication
          """, about: "the standbys that the \(end.end)'s commits wait for")
        // An ordinary role sees of others' walsenders only that they exist.
        guard try row.integer("seen") == row.integer("every") else { continue }
        let facts = Facts(names: try row.text("names"), count: try row.integer("present"))
        if let finding = judge(facts, end: end.end) { findings.append(finding) }
      }
      return findings
    }

    static func judge(_ facts: Facts, end: String) -> Finding? {
      guard !facts.names.isEmpty, facts.count == 0 else { return nil }
      return Finding(
        end == "target" ? .blocker : .warning, check: "synchronous_standby", object: end,
        why: "Commits wait for a synchronous standby (synchronous_standby_names is "
          + "\(quotedLiteral(facts.names))), and none is there.",
        remedy: "Start the standby; or ALTER SYSTEM SET synchronous_standby_names = ''; SELECT "
          + "pg_reload_conf(); (Amazon Aurora and RDS: in the parameter group).")
    }
  }
}
