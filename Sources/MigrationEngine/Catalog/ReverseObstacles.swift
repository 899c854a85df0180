import LibPQ

/// What prevents reverse replication.
struct ReverseObstacle: Sendable, Equatable {
  var why: String
  /// How to fix it on the servers.
  var remedy: String

  /// Changes neither end.
  /// - Parameter slot: the name of the slot on the target; an existing one needs no free slot.
  static func find(source: Connection, target: Connection, slot: String) async throws
    -> [ReverseObstacle]
  {
    try await onTarget(target, slot) + onSource(source)
  }

  private static func onTarget(_ target: Connection, _ slot: String) async throws -> [ReverseObstacle] {
    let rows = try await target.query(
      """
      SELECT pg_catalog.current_setting('wal_level') AS wal_level,
        pg_catalog.current_setting('max_replication_slots')::integer
          > (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots WHERE slot_name <> $1)
          AS has_slot,
        pg_catalog.current_setting('max_wal_senders')::integer > 0 AS has_walsender,
        r.rolname, r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles a
          WHERE a.rolname = 'rds_replication' AND pg_catalog.pg_has_role(a.oid, 'USAGE')) AS replicates
      FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
      """, [slot], doing: "examining whether the target can send its writes back", within: .seconds(30))
    guard let row = rows.first else { return [] }
    var found: [ReverseObstacle] = []
    let level = try row.text("wal_level")
    if level != "logical" {
      found.append(
        ReverseObstacle(
          why: "wal_level of the target is \(level).",
          remedy: "ALTER SYSTEM SET wal_level = logical; and restart the target (Amazon Aurora and RDS: "
            + "rds.logical_replication = 1 in its parameter group)."))
    }
    let plugins = try await OutputPlugins.read(
      from: target, doing: "examining whether the target can send its writes back")
    if let plugins, !plugins.havePgOutput {
      found.append(
        ReverseObstacle(
          why: "output_plugin_libraries of the target does not name pgoutput.", remedy: plugins.remedy))
    }
    if try !row.bool("has_slot") || !row.bool("has_walsender") {
      found.append(
        ReverseObstacle(
          why: "The target has no free replication slot or no walsender.",
          remedy: "Raise max_replication_slots and max_wal_senders on the target, and restart it."))
    }
    if try !row.bool("replicates") {
      let role = SQL.identifier(try row.text("rolname"))
      found.append(
        ReverseObstacle(
          why: "Role \(role) may not replicate on the target.",
          remedy: "ALTER ROLE \(role) REPLICATION; (Amazon Aurora and RDS: GRANT rds_replication TO \(role);)"
        ))
    }
    return found
  }

  private static func onSource(_ source: Connection) async throws -> [ReverseObstacle] {
    let action = "examining whether the source can take the target's writes"
    var found: [ReverseObstacle] = []
    let roles = try await source.query("SELECT current_user AS role", doing: action, within: .seconds(30))
    guard let name = try roles.first?.text("role") else { return [] }
    let role = SQL.identifier(name)
    if let refusal = try await replicaRoleRefusal(source) {
      let grant =
        try await source.has(.parameterPrivileges)
        ? "GRANT SET ON PARAMETER session_replication_role TO \(role);" : "ALTER ROLE \(role) SUPERUSER;"
      found.append(
        ReverseObstacle(
          why: "Role \(role) may not set session_replication_role on the source: \(refusal)",
          remedy: "\(grant) (Amazon Aurora and RDS: GRANT rds_superuser TO \(role);)"))
    }
    let rows = try await source.query(
      """
      SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(Catalog.isUserTable) AND NOT (pg_catalog.has_table_privilege(c.oid, 'SELECT')
        AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
        AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')
        AND pg_catalog.has_table_privilege(c.oid, 'DELETE')
        AND pg_catalog.has_table_privilege(c.oid, 'TRUNCATE'))
      ORDER BY 1 LIMIT 5
      """, doing: action, within: .seconds(60))
    let tables = try rows.map { try $0.text("name") }
    if !tables.isEmpty {
      found.append(
        ReverseObstacle(
          why: "Role \(role) may not write to tables of the source: \(tables.joined(separator: ", ")).",
          remedy: "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLE \(tables.joined(separator: ", ")) "
            + "TO \(role);"))
    }
    return found
  }

  /// Found out by trying: Amazon's rds_superuser may set it although no catalog says so.
  private static func replicaRoleRefusal(_ source: Connection) async throws -> String? {
    let action = "examining the replica role on the source"
    try await source.query("BEGIN", doing: action, within: .seconds(30))
    do {
      try await source.query(
        "SET LOCAL session_replication_role = replica", doing: action, within: .seconds(30))
      await source.rollback()
      return nil
    } catch let error as PostgresError where error.sqlState == .insufficientPrivilege {
      await source.rollback()
      return error.message
    } catch {
      await source.rollback()
      throw error
    }
  }
}
