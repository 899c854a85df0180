import LibPQ

/// What a restart of the source's server would cost now.
enum RestartCost {
  static func read(from source: Connection) async throws -> PreparationPlan.Cost {
    var cost = PreparationPlan.Cost()
    let action = "asking the source whom a restart disconnects"
    // Of others our role may see only role and application. Whoever receives WAL is seen by all.
    let rows = try await source.query(
      """
      SELECT usename AS role, coalesce(application_name, '') AS application, pg_catalog.count(*) AS sessions,
        pg_catalog.count(xact_start) AS transactions,
        pg_catalog.count(*) FILTER (WHERE backend_type IS NULL) AS hidden,
        pg_catalog.max(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - xact_start)) AS oldest
      FROM pg_catalog.pg_stat_activity a
      WHERE usename IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
        AND pid <> pg_catalog.pg_backend_pid()
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication r WHERE r.pid = a.pid)
      GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
      """, doing: action, within: .seconds(15))
    for row in rows {
      cost.sessions.append(
        PreparationPlan.Sessions(
          role: try row.text("role"), application: try row.text("application"),
          count: try row.integer("sessions"), transactions: try row.integer("transactions")))
      cost.hidden += try row.integer("hidden")
      if let age = try row.optional("oldest").flatMap(Double.init) {
        cost.oldestTransaction = max(cost.oldestTransaction ?? 0, age)
      }
    }
    cost.receivers =
      try await source.query(
        "SELECT pg_catalog.count(*) AS receivers FROM pg_catalog.pg_stat_replication ",
        doing: action, within: .seconds(15)
      ).first?.integer("receivers") ?? 0
    try await readCheckpoint(&cost, source)
    return cost
  }

  /// The server writes at its shutdown what was changed since.
  private static func readCheckpoint(_ cost: inout PreparationPlan.Cost, _ source: Connection) async throws {
    guard try await SystemPrivileges.mayCall("pg_control_checkpoint()", on: source) else { return }
    let rows = try await source.query(
      """
      SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - checkpoint_time) AS age,
        CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
          pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), redo_lsn)::bigint END AS bytes
      FROM pg_catalog.pg_control_checkpoint()
      """, doing: "asking the source for its last checkpoint", within: .seconds(15))
    cost.checkpointAge = try rows.first?.double("age")
    cost.checkpointBytes = try rows.first?.optional("bytes").flatMap { Int64($0) }
  }
}
