import LibPQ

/// Notices when one of the engine's sessions waits for another session's lock, or its commit for a missing
/// standby, and says which and whose. Such a wait ends only when the other side acts: it is reported, not
/// abandoned.
struct LockWatch {
  /// One waiting session, with one of those it waits for.
  struct Wait: Sendable, Equatable {
    var session: Int
    /// The name of ours: `replicate apply`.
    var purpose: String
    /// What the lock is on; nil when the server does not show it.
    var object: String?
    /// Zero for a prepared transaction; nil for a standby.
    var holder: Int?
    /// Who that is, in words.
    var who: String
    /// What ends it.
    var remedy: String
  }

  /// How long a wait lasts before it is reported: others' short transactions are no news.
  private static let patience = Duration.seconds(2)
  /// Not every look sees a wait made of short tries.
  private static let memory = Duration.seconds(3)

  private let end: String
  private var seen: [Int: (since: ContinuousClock.Instant, last: ContinuousClock.Instant, waits: [Wait])] =
    [:]

  init(end: String) { self.end = end }

  /// - Returns: what the session waits for, in words; nil when for nothing, or not for long.
  mutating func look(in connection: Connection) async throws -> String? {
    note(try await Self.read(from: connection), at: .now)
  }

  mutating func note(_ waits: [Wait], at now: ContinuousClock.Instant) -> String? {
    for (session, waits) in Dictionary(grouping: waits, by: \.session) {
      let since = seen[session].map { $0.waits.map(\.holder) == waits.map(\.holder) ? $0.since : now } ?? now
      seen[session] = (since, now, waits)
    }
    seen = seen.filter { now - $0.value.last < Self.memory }
    let long = seen.sorted { $0.key < $1.key }.filter { now - $0.value.since >= Self.patience }
    guard !long.isEmpty else { return nil }
    return long.flatMap(\.value.waits).map(words).joined(separator: "\n")
  }

  private func words(_ wait: Wait) -> String {
    guard wait.holder != nil else {
      return """
        \(Self.part(wait.purpose)) waits with its commit for \(wait.who) of the \(end), and goes on by \
        itself once that is there. To do without it, on the \(end): \(wait.remedy)
        """
    }
    return """
      \(Self.part(wait.purpose)) waits for a lock on \(wait.object ?? "a row") of the \(end) that \
      \(wait.who) holds, and goes on by itself once that has ended. To end it, on the \(end): \(wait.remedy)
      """
  }

  private static func part(_ purpose: String) -> String {
    switch purpose {
    case "replicate apply": "the stream"
    case "replicate copy": "the copy"
    case "replicate restore": "the making of indexes, keys and constraints"
    case "replicate analyze": "the gathering of statistics"
    case "replicate refresh": "the refresh of a materialized view"
    case "replicate verify": "a comparison"
    case "replicate cutover": "the cutover"
    default: "the engine (\(purpose))"
    }
  }

  // MARK: Asking

  /// Our own sessions sometimes wait for each other, which ends by itself.
  private static let waits = """
    SELECT w.pid, w.application_name AS purpose, k.pid AS holder, r.relation, b.usename,
      b.application_name, b.state, p.gid
    FROM pg_catalog.pg_stat_activity w
      CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) AS k (pid)
      LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = k.pid AND k.pid <> 0
      LEFT JOIN LATERAL (
        SELECT l.relation, CASE WHEN c.relkind IN ('i', 'I') THEN 'index ' ELSE 'table ' END
            || pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE l.pid = w.pid AND (NOT l.granted OR l.locktype = 'tuple')
        ORDER BY l.granted LIMIT 1) AS r (oid, relation) ON true
      LEFT JOIN LATERAL (
        SELECT x.gid FROM pg_catalog.pg_prepared_xacts x
          JOIN pg_catalog.pg_locks t ON t.transactionid = x.transaction AND t.granted
          JOIN pg_catalog.pg_locks h ON h.virtualtransaction = t.virtualtransaction AND h.pid IS NULL
        WHERE k.pid = 0 AND h.relation = r.oid AND x.database = pg_catalog.current_database()
        LIMIT 1) AS p ON true
    WHERE w.datname = pg_catalog.current_database() AND w.wait_event_type = 'Lock'
      AND w.application_name LIKE 'replicate %' AND w.pid <> pg_catalog.pg_backend_pid()
      AND (b.application_name IS NULL OR b.application_name NOT LIKE 'replicate %')
    UNION ALL
    SELECT w.pid, w.application_name, NULL, pg_catalog.current_setting('synchronous_standby_names'), NULL,
      NULL, NULL, NULL
    FROM pg_catalog.pg_stat_activity w
    WHERE w.datname = pg_catalog.current_database() AND w.wait_event = 'SyncRep'
      AND w.application_name LIKE 'replicate %' AND w.pid <> pg_catalog.pg_backend_pid()
    ORDER BY 1, 3
    """

  static func read(from connection: Connection) async throws -> [Wait] {
    try await connection.query(
      waits, doing: "looking for locks that the engine waits for", within: .seconds(15)
    ).map { row in
      let relation = try row.optional("relation")
      guard let holder = try row.optional("holder").flatMap(Int.init) else {
        return Wait(
          session: try row.integer("pid"), purpose: try row.text("purpose"), object: nil, holder: nil,
          who: "a synchronous standby (synchronous_standby_names = \(SQL.literal(relation ?? "")))",
          remedy: "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();")
      }
      let (who, remedy) = try Self.holder(holder, row)
      return Wait(
        session: try row.integer("pid"), purpose: try row.text("purpose"), object: relation, holder: holder,
        who: who, remedy: remedy)
    }
  }

  private static func holder(_ pid: Int, _ row: Rows.Row) throws -> (who: String, remedy: String) {
    guard pid != 0 else {
      let gid = try row.optional("gid")
      let name = gid.map(SQL.literal) ?? "its name in pg_prepared_xacts"
      return ("prepared transaction \(name)", "ROLLBACK PREPARED \(name); or COMMIT PREPARED \(name);")
    }
    var parts: [String] = []
    if let role = try row.optional("usename") { parts.append("role \(SQL.identifier(role))") }
    if let application = try row.optional("application_name"), !application.isEmpty {
      parts.append("application \(SQL.literal(application))")
    }
    if let state = try row.optional("state") { parts.append(state) }
    let words = parts.isEmpty ? "" : " (\(parts.joined(separator: ", ")))"
    return ("session \(pid)\(words)", "SELECT pg_terminate_backend(\(pid));")
  }
}
