import LibPQ
import LogicalReplication

extension Preflight {
  /// Prepared transactions: a slot is created only once every open transaction of any database has ended.
  enum PreparedTransactions {
    struct Prepared: Sendable, Equatable {
      var gid: String
      var owner: String
      var database: String
      var ageSeconds: Int
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let rows = try await context.source.ask(
        """
        SELECT gid, owner, database,
          pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - prepared)::bigint AS age
        FROM pg_catalog.pg_prepared_xacts ORDER BY prepared
        """, about: "prepared transactions")
      return try rows.map {
        judge(
          Prepared(
            gid: try $0.text("gid"), owner: try $0.text("owner"), database: try $0.text("database"),
            ageSeconds: try $0.integer("age")), isResuming: context.isResuming)
      }
    }

    static func judge(_ prepared: Prepared, isResuming: Bool) -> Finding {
      let gid = quotedLiteral(prepared.gid)
      let delay = isResuming ? "a newer snapshot and the cutover wait" : "no replication slot can be created"
      return Finding(
        isResuming ? .warning : .blocker, check: "prepared_transaction",
        object: "prepared transaction \(gid) in database \(quotedIdentifier(prepared.database))",
        why:
          "It has been prepared for \(prepared.ageSeconds) s by role \(quotedIdentifier(prepared.owner)); "
          + "\(delay) "
          + "until it has ended.",
        remedy:
          "In database \(quotedIdentifier(prepared.database)), as its transaction manager decides: COMMIT "
          + "PREPARED "
          + "\(gid); or ROLLBACK PREPARED \(gid);")
    }
  }

  /// Long transactions: those that wrote hold up the slot, all hold up the fence.
  enum LongTransactions {
    struct Running: Sendable, Equatable {
      var pid: Int
      var role: String
      var application: String
      var database: String
      var ageSeconds: Int
      /// Whether it has a transaction ID: it wrote, or took a row lock.
      var hasWritten: Bool
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let age = context.longTransaction.components
      let rows = try await context.source.ask(
        """
        SELECT pid, coalesce(usename, '') AS role, application_name, coalesce(datname, '') AS database,
          backend_xid IS NOT NULL AS has_written,
          pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - xact_start)::bigint AS age
        FROM pg_catalog.pg_stat_activity
        WHERE pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - xact_start) >= $1::double precision
          AND (backend_xid IS NOT NULL OR datname = pg_catalog.current_database())
          AND backend_type <> 'walsender' AND pid <> pg_catalog.pg_backend_pid()
          AND application_name !~ '^replicate '
        ORDER BY xact_start
        """, [String(Double(age.seconds) + Double(age.attoseconds) / 1e18)], about: "long transactions")
      return try rows.map {
        judge(
          Running(
            pid: try $0.integer("pid"), role: try $0.text("role"),
            application: try $0.text("application_name"),
            database: try $0.text("database"), ageSeconds: try $0.integer("age"),
            hasWritten: try $0.bool("has_written")))
      }
    }

    static func judge(_ running: Running) -> Finding {
      let effect =
        running.hasWritten
        ? "It has written: while it is open, neither the replication slot nor a cutover is possible."
        : "If it writes later, it holds up the slot and the cutover."
      return Finding(
        .warning, check: "long_transaction", object: "transaction of process \(running.pid)",
        why:
          "It has been open for \(running.ageSeconds) s (role \(quotedIdentifier(running.role)), application "
          + "\(quotedIdentifier(running.application)), database \(quotedIdentifier(running.database))). "
          + "\(effect)",
        remedy: "Let it end, or: SELECT pg_terminate_backend(\(running.pid));")
    }
  }
}
