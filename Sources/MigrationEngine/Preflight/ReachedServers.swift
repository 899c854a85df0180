import LibPQ
import LogicalReplication

extension Preflight {
  /// Whether both ends are two databases.
  enum SameDatabase {
    /// A restored snapshot has its cluster's system identifier; only the running server has its start time,
    /// which has microsecond precision.
    struct Identity: Sendable, Equatable {
      var started: String
      var database: String
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      judge(source: try await identity(context.source), target: try await identity(context.target))
    }

    static func identity(_ connection: Connection) async throws -> Identity {
      let row = try await connection.askOne(
        """
        SELECT pg_catalog.pg_postmaster_start_time() AS started,
          (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS database
        """, about: "which server and database this is")
      return Identity(
        started: try row.text("started"), database: try row.text("database"))
    }

    static func judge(source: Identity, target: Identity) -> [Finding] {
      guard source == target else { return [] }
      return [
        Finding(
          .blocker, check: "same_database", object: "target",
          why: "Source and target are one and the same database.",
          remedy: "Point --target (REPLICATE_TARGET) at the new, empty database.")
      ]
    }
  }

  /// Whether both ends accept writes.
  enum WriteReadiness {
    struct Facts: Sendable, Equatable {
      var isInRecovery = false
      /// The value that new sessions get, whatever our own session has set.
      var isReadOnlyByDefault = false
      var database = "app"
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      judge(
        source: try await facts(context.source, context.options.source),
        target: try await facts(context.target, context.options.target), isResuming: context.isResuming)
    }

    /// A connection string's options or `PGOPTIONS` are for our own sessions only: looks at a session without
    /// them, if possible.
    private static func facts(_ ours: Connection, _ string: ConnectionString) async throws -> Facts {
      let plain: Connection
      do {
        plain = try await Session.open(
          string.setting("options", to: " "), end: ours.end, purpose: "preflight")
      } catch is PostgresError {
        return try await facts(ours)
      }
      return try await closing(plain) { try await facts(plain) }
    }

    private static func facts(_ connection: Connection) async throws -> Facts {
      let row = try await connection.askOne(
        """
        SELECT pg_catalog.pg_is_in_recovery() AS recovery, pg_catalog.current_database() AS database,
          (SELECT reset_val FROM pg_catalog.pg_settings
            WHERE name = 'default_transaction_read_only') AS read_only
        """, about: "whether the \(connection.end) takes writes")
      return Facts(
        isInRecovery: try row.bool("recovery"), isReadOnlyByDefault: try row.bool("read_only"),
        database: try row.text("database"))
    }

    static func judge(source: Facts, target: Facts, isResuming: Bool) -> [Finding] {
      var findings: [Finding] = []
      func add(
        _ severity: Finding.Severity, _ check: String, _ object: String, _ why: String, _ remedy: String
      ) {
        findings.append(Finding(severity, check: check, object: object, why: why, remedy: remedy))
      }
      let writer = "(on Amazon Aurora the cluster endpoint, not the reader's)."
      func undo(_ facts: Facts) -> String {
        "ALTER DATABASE \(quotedIdentifier(facts.database)) RESET default_transaction_read_only; or ALTER "
          + "SYSTEM RESET "
          + "default_transaction_read_only; SELECT pg_reload_conf(); (Amazon Aurora and RDS: in the "
          + "parameter group)."
      }
      if source.isInRecovery {
        add(
          .blocker, "recovery", "source",
          "The source is a standby: neither publication nor fence can be created on it.",
          "Connect to the primary \(writer)")
      }
      if target.isInRecovery {
        add(
          .blocker, "recovery", "target", "The target is a standby and takes no writes.",
          "Connect to the primary \(writer)")
      }
      // A running cutover may itself have set this.
      if source.isReadOnlyByDefault, !isResuming {
        add(
          .warning, "read_only", "source",
          "default_transaction_read_only is on: the source's writers are refused already.", undo(source))
      }
      if target.isReadOnlyByDefault {
        add(
          isResuming ? .warning : .blocker, "read_only", "target",
          "default_transaction_read_only is on: after the switch the target would refuse the application's "
            + "writes.",
          undo(target))
      }
      return findings
    }
  }

  /// Whether a connection pooler shares one server session among several of ours: then a session would not
  /// keep its settings and locks.
  enum Pooler {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      try await examine(context.source, context.options.source)
        + examine(context.target, context.options.target)
    }

    static func examine(_ first: Connection, _ string: ConnectionString) async throws -> [Finding] {
      let second: Connection
      do {
        second = try await Session.open(string, end: first.end, purpose: "preflight")
      } catch let error as PostgresError {
        return [noSecondSession(end: first.end, reason: "\(error)")]
      }
      let before = try await backend(of: first)
      // In a transaction: a pooler must keep it separate from the first session meanwhile.
      try await second.query("BEGIN", doing: "examining the path to the server", within: .seconds(30))
      let other = try await backend(of: second)
      let after = try await backend(of: first)
      await second.close()
      return judge(end: first.end, first: [before, after], second: other)
    }

    private static func backend(of connection: Connection) async throws -> Int {
      try await connection.askOne(
        "SELECT pg_catalog.pg_backend_pid() AS pid", about: "the path to the server"
      ).integer("pid")
    }

    static func noSecondSession(end: String, reason: String) -> Finding {
      Finding(
        .blocker, check: "pooler", object: end,
        why:
          "A migration needs several sessions at the same time, and a second one cannot be opened: \(reason)",
        remedy:
          "Leave room for at least ten sessions (max_connections; ALTER ROLE … CONNECTION LIMIT -1; ALTER "
          + "DATABASE "
          + "… CONNECTION LIMIT -1).")
    }

    /// - Parameters: process ids of the backends that served two sessions open at the same time.
    static func judge(end: String, first: [Int], second: Int) -> [Finding] {
      guard SharedServer.isShared(first: first, second: second) else { return [] }
      return [
        Finding(
          .blocker, check: "pooler", object: end,
          why:
            "A pooler (PgBouncer, RDS Proxy) between here and the \(end) shares server sessions between "
            + "clients.",
          remedy: "Give --\(end) the server's own host and port.")
      ]
    }
  }

  /// Whether the source lets us open a replication connection.
  enum ReplicationAccess {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let row = try await context.source.askOne(
        "SELECT pg_catalog.current_database() AS database, current_user AS role",
        about: "the source's database")
      let database = try row.text("database")
      let role = try row.text("role")
      do {
        let connection = try await Session.openReplication(context.options.source)
        let served = try await connection.askOne("IDENTIFY_SYSTEM", about: "the replication connection")
          .optional("dbname")
        await connection.close()
        return served == database ? [] : [refused("it serves another database.", role: role)]
      } catch let error as PostgresError {
        return [refused("\(error)", role: role)]
      }
    }

    static func refused(_ reason: String, role: String) -> Finding {
      let role = quotedIdentifier(role)
      return Finding(
        .blocker, check: "replication_connection", object: "source",
        why: "The stream needs a replication connection, and none can be opened: \(reason)",
        remedy:
          "Connect to the server itself, not through a pooler or proxy; let pg_hba.conf admit this role to "
          + "the "
          + "database; ALTER ROLE \(role) REPLICATION; (on Amazon Aurora and RDS: GRANT rds_replication TO "
          + "\(role);)"
      )
    }
  }
}
