import LibPQ

/// A transaction that holds a lock on a table of the source.
struct Writer: Sendable, Equatable, CustomStringConvertible {
  /// Virtual transaction ID; a prepared transaction keeps its own.
  var transaction: String
  /// Nil for a prepared transaction.
  var pid: Int32?
  /// The name of a prepared transaction.
  var gid: String?
  var user: String
  var application: String
  var state: String
  /// The first word of its newest statement: `UPDATE`. Empty when it is not known.
  var statement: String
  var ageSeconds: Double
  /// The lock by which it was found: `AccessExclusiveLock on "public"."t"`. Nil where that says nothing.
  var lock: String?

  var description: String {
    let age = "\((ageSeconds * 10).rounded() / 10) s old\(lock.map { ", holds \($0)" } ?? "")"
    guard let pid else { return "prepared transaction \(SQL.literal(gid ?? "?")) (user \(user), \(age))" }
    let kind = statement.isEmpty ? "" : ", last statement \(statement)"
    return "pid \(pid) (user \(user), application \(SQL.literal(application)), \(state)\(kind), \(age))"
  }
}

/// The transactions that may still write although the fence is up: those that held a write lock when it was
/// committed. A later lock holder has seen the fence, since taking a lock processes catalog invalidations.
struct Writers: Sendable {
  let connection: Connection

  init(_ connection: Connection) { self.connection = connection }

  /// Transactions that hold a lock on a user table that allows writing, that have created a table nobody else
  /// sees yet, or that have written what has no trigger.
  func holding() async throws -> [Writer] {
    try await holders(
      """
      \(Self.holds(Self.writeModes, on: Catalog.isUserTable)) OR \(Self.holdsUnseen)
        OR \(Self.holdsUnfenced)
      """)
  }

  /// Transactions that may have dropped a table's trigger, or created a table without one: until they commit
  /// the catalogs do not show it. VACUUM also takes ACCESS EXCLUSIVE, to truncate the table.
  func ofDefinitions() async throws -> [Writer] {
    try await holders(
      """
      (\(Self.holds(Self.definingModes, on: Catalog.isUserTable)) OR \(Self.holdsUnseen)) AND \(Self.hasID)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = l.pid)
      """, reportingLock: true)
  }

  /// Open transactions that have written what no trigger protects: large objects, and tables of extensions.
  func ofUnfenced() async throws -> [Writer] { try await holders(Self.holdsUnfenced) }

  /// What distinguishes large objects written from now on from those before.
  /// - Returns: nil when there are none, or our role may not read them.
  func largeObjectsHorizon() async throws -> String? {
    let rows = try await connection.query(
      """
      SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.xid AS horizon
      WHERE pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')
        AND EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)
      """, doing: "reading the position of the \(connection.end)'s large objects", within: .seconds(15))
    return try rows.first?.text("horizon")
  }

  /// Large objects written by transactions that started writing after `horizon`.
  func largeObjects(writtenSince horizon: String) async throws -> [UInt32] {
    let rows = try await connection.query(
      """
      SELECT DISTINCT loid FROM pg_catalog.pg_largeobject
      WHERE pg_catalog.age(xmin) <= pg_catalog.age($1::pg_catalog.xid) ORDER BY loid
      """, [horizon], doing: "looking for large objects written on the \(connection.end) after its seal",
      within: .seconds(60))
    return try rows.map { try $0.integer("loid", as: UInt32.self) }
  }

  /// Transactions that hold a lock on `table` that CREATE TRIGGER waits for.
  func blocking(_ table: RelationName) async throws -> [Writer] {
    try await holders(
      Self.holds(
        Self.writeModes + ["ShareLock", "ShareUpdateExclusiveLock"],
        on: "n.nspname = \(SQL.literal(table.schema)) AND c.relname = \(SQL.literal(table.name))"))
  }

  /// Transactions that hold any lock on `table`, which prevents ACCESS EXCLUSIVE.
  func using(_ table: RelationName) async throws -> [Writer] {
    try await holders(
      """
      l.locktype = 'relation' AND n.nspname = \(SQL.literal(table.schema))
        AND c.relname = \(SQL.literal(table.name))
      """, reportingLock: true)
  }

  /// Those of these sessions that are in a transaction of any kind.
  func inTransactions(of pids: [Int32]) async throws -> [Writer] {
    let list = pids.map(String.init).joined(separator: ",")
    return try await holders(
      """
      l.locktype = 'virtualxid' AND l.pid = ANY ('{\(list)}')
        AND a.datname = pg_catalog.current_database()
      """)
  }

  /// Transactions that write to a fenced table although the fence refuses it, as an apply worker does, below
  /// the executor. Sessions that the fence refuses hold no lock for long.
  func pastGuard() async throws -> [Writer] {
    let guarded = """
      EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = 'replicate_guard')
      """
    return try await holders(
      "\(Self.holds(["RowExclusiveLock"], on: guarded)) AND \(Self.hasID)", reportingLock: true)
  }

  /// Refuses while replication, which no fence stops, writes to this database.
  func ensureNoReplicators(doing action: String) async throws {
    let replicators = try await Replicator.all(on: connection).filter(\.isEnabled)
    guard !replicators.isEmpty else { return }
    throw MigrationError(
      .failed, doing: action,
      reason: "the \(connection.end) is written to by replication, which no fence stops: "
        + replicators.map(\.object).joined(separator: ", "),
      remedy: replicators.map(\.remedy).joined(separator: " "))
  }

  /// - Parameter origins: of changes that came, and how long ago the last of each did.
  func ensureNoOrigins(
    _ origins: [(name: String, age: Duration)], doing action: String
  ) async throws {
    let recent = origins.filter { $0.age < Self.originMemory }
    let alive = try await Replicator.alive(recent.map(\.name), on: connection)
    guard !alive.isEmpty else { return }
    let named = recent.filter { alive.contains($0.name) }.map {
      "\(SQL.literal($0.name)), \(Int($0.age / .seconds(1))) s ago"
    }
    let drops = alive.map { "SELECT pg_replication_origin_drop(\(SQL.literal($0)));" }
    throw MigrationError(
      .failed, doing: action,
      reason: "changes came from elsewhere by replication, and what writes them may pass every fence: "
        + "replication origin \(named.joined(separator: "; "))",
      remedy: "Stop what writes them, then try again once "
        + "\(Self.originMemory.components.seconds / 60) minutes have passed without such changes, or its "
        + "origin is dropped: \(drops.joined(separator: " "))")
  }

  /// How long an origin counts as in use after its last change.
  private static let originMemory = Duration.seconds(600)

  /// Waits for exactly those that hold a write lock now.
  /// - Parameters:
  ///   - patience: after which those still open are terminated; nil: never.
  ///   - onTermination: called at once, whatever happens afterwards.
  /// - Returns: how many there were, and those that were terminated.
  /// - Throws: `MigrationError` that names those still open at the deadline.
  func awaitHolding(
    until deadline: ContinuousClock.Instant, terminatingAfter patience: Duration? = nil,
    isolation: isolated (any Actor)? = #isolation, onTermination: (Termination) -> Void = { _ in }
  ) async throws -> (count: Int, terminated: [Writer]) {
    let writers = try await holding()
    var forceAt = patience.map { ContinuousClock.now + $0 }
    var terminated: [Writer] = []
    var left = writers
    var pause = Duration.milliseconds(2)
    while !left.isEmpty {
      guard ContinuousClock.now < deadline else {
        throw MigrationError(
          .failed, doing: "waiting for the writers that were under way",
          reason: "still open: \(Self.list(left))",
          remedy: Self.remedy(left))
      }
      if let instant = forceAt, .now >= instant {
        forceAt = nil
        let termination = try await terminate(left)
        onTermination(termination)
        terminated = termination.ended
      }
      try await Task.sleep(for: pause)
      pause = min(pause * 2, .milliseconds(50))
      let open = try await stillOpen(left)
      left.removeAll { !open.contains($0.transaction) }
    }
    return (writers.count, terminated)
  }

  /// The result of terminating sessions.
  struct Termination: Sendable {
    var ended: [Writer] = []
    /// Those that our role may not terminate.
    var refused: [Writer] = []
    /// What lets it; nil when none was refused.
    var remedy: String?
  }

  /// Terminates the sessions of these transactions, if they are still in them. A prepared transaction has
  /// none: people must decide about it. A session that may not be terminated does not protect the others.
  func terminate(_ writers: [Writer]) async throws -> Termination {
    var termination = Termination()
    for writer in writers {
      do {
        if try await terminate(writer) { termination.ended.append(writer) }
      } catch let error as PostgresError where error.sqlState == .insufficientPrivilege {
        termination.refused.append(writer)
      }
    }
    if !termination.refused.isEmpty { termination.remedy = try await permission() }
    return termination
  }

  private func terminate(_ writer: Writer) async throws -> Bool {
    guard let pid = writer.pid else { return false }
    let rows = try await connection.query(
      """
      SELECT pg_catalog.pg_terminate_backend($1::integer) AS is_ended WHERE EXISTS (
        SELECT FROM pg_catalog.pg_locks WHERE pid = $1::integer AND virtualtransaction = $2)
      """, [String(pid), writer.transaction], doing: "ending \(writer)", within: .seconds(15))
    return try rows.first?.bool("is_ended") == true
  }

  /// What lets our role terminate sessions of roles that it is not a member of; nil when it may.
  func missingPermission() async throws -> String? {
    let rows = try await connection.query(
      "SELECT pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS it_may",
      doing: "asking whether sessions may be ended", within: .seconds(15))
    return try rows.first?.bool("it_may") == true ? nil : try await permission()
  }

  private func permission() async throws -> String {
    let rows = try await connection.query(
      "SELECT pg_catalog.quote_ident(CURRENT_USER) AS role", doing: "asking for our role's name",
      within: .seconds(15))
    let role = try rows.first?.text("role") ?? ""
    return "GRANT pg_signal_backend TO \(role); lets it end sessions, except those of superusers"
  }

  private static let definingModes = ["ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]
  private static let writeModes = ["RowExclusiveLock"] + definingModes

  /// The lock `l` is one of `modes` on a table selected through `c` and `n`.
  private static func holds(_ modes: [String], on condition: String) -> String {
    "(l.locktype = 'relation' AND l.mode = ANY ('{\(modes.joined(separator: ","))}') AND \(condition))"
  }

  /// A relation that the catalog does not show was created by the lock holder. So were the transient tables
  /// of REFRESH MATERIALIZED VIEW, indexes and temporary tables, but only creating a relation in a schema
  /// locks the schema. A schema that is not shown either was created by the same transaction.
  private static let holdsUnseen = """
    (l.locktype = 'relation' AND l.mode = ANY ('{\(writeModes.joined(separator: ","))}') AND c.oid IS NULL
      AND EXISTS (SELECT FROM pg_catalog.pg_locks s
          LEFT JOIN pg_catalog.pg_namespace o ON o.oid = s.objid
        WHERE s.virtualtransaction = l.virtualtransaction AND s.locktype = 'object'
          AND s.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
          AND (o.oid IS NULL
            OR o.nspname !~ '^pg_' AND o.nspname NOT IN ('information_schema', 'replicate'))))
    """

  /// A transaction with an ID has written something.
  private static let hasID = """
    EXISTS (SELECT FROM pg_catalog.pg_locks w WHERE w.locktype = 'transactionid' AND w.granted
      AND w.mode = 'ExclusiveLock' AND w.virtualtransaction = l.virtualtransaction)
    """

  /// Readers of a large object take the same lock as writers, but write nothing and so have no transaction
  /// ID. Removing one locks the object itself.
  private static let holdsLargeObject = """
    ((l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
          AND l.relation = 'pg_catalog.pg_largeobject'::pg_catalog.regclass
        OR l.locktype = 'object' AND l.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass)
      AND \(hasID))
    """

  private static let holdsUnfenced = """
    (\(holdsLargeObject) OR \(holds(writeModes, on: ConfigurationTable.isOne)) AND \(hasID))
    """

  /// pg_locks is not one instant, but it shows every transaction that held its lock before we asked and has
  /// not ended (manual, section 54.12 `pg_locks`).
  private func holders(_ condition: String, reportingLock: Bool = false) async throws -> [Writer] {
    let rows = try await connection.query(
      """
      SELECT DISTINCT ON (l.virtualtransaction) l.virtualtransaction, l.pid, p.gid,
        coalesce(a.usename, p.owner, '?') AS user_name, coalesce(a.application_name, '') AS application,
        coalesce(a.state, 'state unknown') AS state,
        coalesce(pg_catalog.upper(pg_catalog.substring(a.query, '^[[:space:]]*([A-Za-z]+)')), '')
          AS statement,
        coalesce(pg_catalog.date_part('epoch',
          pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared)), 0) AS age,
        l.mode || ' on ' || coalesce(
          pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
          'a relation that it has created') AS lock
      FROM pg_catalog.pg_locks l
        LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
        LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
          AND x.virtualtransaction = l.virtualtransaction
        LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
      WHERE l.granted AND (l.locktype = 'virtualxid' OR l.database = (SELECT oid FROM pg_catalog.pg_database
          WHERE datname = pg_catalog.current_database()))
        AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
        AND (\(condition))
      ORDER BY l.virtualtransaction
      """, doing: "reading who holds locks on the \(connection.end)'s tables", within: .seconds(15),
      // Planning costs several times as much as running it, and users wait.
      isPrepared: true)
    return try rows.map { row in
      Writer(
        transaction: try row.text("virtualtransaction"), pid: try row.optional("pid").flatMap { Int32($0) },
        gid: try row.optional("gid"), user: try row.text("user_name"),
        application: try row.text("application"),
        state: try row.text("state"), statement: try row.text("statement"), ageSeconds: try row.double("age"),
        lock: reportingLock ? try row.text("lock") : nil)
    }
  }

  /// A transaction, even a prepared one, holds a lock on its own ID while it is open.
  private func stillOpen(_ writers: [Writer]) async throws -> Set<String> {
    let ids = writers.map { "\"\($0.transaction)\"" }.joined(separator: ",")
    let rows = try await connection.query(
      "SELECT DISTINCT virtualtransaction FROM pg_catalog.pg_locks WHERE virtualtransaction = ANY ($1)",
      ["{\(ids)}"], doing: "waiting for the writers that were under way", within: .seconds(15))
    return Set(try rows.map { try $0.text("virtualtransaction") })
  }

  // MARK: Words

  static func list(_ writers: [Writer]) -> String {
    let named = writers.prefix(5).map(\.description).joined(separator: "; ")
    return writers.count > 5 ? "\(named); and \(writers.count - 5) more" : named
  }

  static func remedy(_ writers: [Writer]) -> String {
    let commands = writers.prefix(5).map { writer in
      if let pid = writer.pid { return "SELECT pg_terminate_backend(\(pid));" }
      let gid = SQL.literal(writer.gid ?? "?")
      return "COMMIT PREPARED \(gid); or ROLLBACK PREPARED \(gid);"
    }
    guard !commands.isEmpty else { return "Try again." }
    return "Wait for them, or end them on the source, then try again: \(commands.joined(separator: " "))"
  }
}
