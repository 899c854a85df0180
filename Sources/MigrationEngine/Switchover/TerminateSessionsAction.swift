import LibPQ

/// Step `terminate-sessions`: ends the application's sessions on the end that was left, so that its pools
/// connect anew, to where its address leads now.
struct TerminateSessionsAction: SwitchAction {
  let step: SwitchStep.TerminateSessions

  private static let answerLimit = Duration.seconds(10)
  private static let poll = Duration.milliseconds(100)

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    guard let left = scene.connections?.left else { return [] }
    do {
      let connection = try await Session.open(left, end: scene.leftName, purpose: "switch")
      return try await closing(connection) { try await examine(connection) }
    } catch {
      return [.blocker("The sessions could not be looked at: \(error)", "Make sure that the server answers.")]
    }
  }

  private func examine(_ connection: Connection) async throws -> [SwitchFinding] {
    let rows = try await connection.query(
      """
      SELECT n.name, r.oid IS NULL AS is_missing,
        r.oid IS NOT NULL AND NOT pg_catalog.pg_has_role(r.oid, 'USAGE') AS is_foreign,
        pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AND NOT r.rolsuper AS may_end,
        pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS may_see,
        pg_catalog.quote_ident(CURRENT_USER) AS our_role
      FROM (SELECT NULLIF(n, '') AS name FROM pg_catalog.unnest($1::text[]) n) n
        LEFT JOIN pg_catalog.pg_roles r ON r.rolname = n.name
      """, [SQL.array(step.roles.isEmpty ? [""] : step.roles)], doing: "examining whose sessions are to end",
      within: Self.answerLimit)
    return try rows.flatMap { row -> [SwitchFinding] in
      let ours = try row.text("our_role")
      guard let name = try row.optional("name") else {
        return try row.bool("may_see") ? [] : [Self.unseen(ours, "pg_read_all_stats")]
      }
      if try row.bool("is_missing") {
        return [.blocker("There is no role \(SQL.identifier(name)).", "Correct roles of this step.")]
      }
      guard try row.bool("is_foreign") else { return [] }
      guard try row.bool("may_see") else { return [Self.unseen(ours, "pg_read_all_stats")] }
      return try row.bool("may_end") ? [] : [Self.unseen(ours, "pg_signal_backend")]
    }
  }

  private static func unseen(_ role: String, _ privilege: String) -> SwitchFinding {
    .blocker(
      "Our role may not see or end other roles' sessions on the end that is left.",
      "GRANT \(privilege) TO \(role);")
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    guard let left = scene.connections?.left else {
      throw SwitchFailure("it is not known how the end that was left is reached")
    }
    guard !scene.isLeftLost else { return "the \(scene.leftName) is lost, and its sessions with it" }
    let connection = try await Session.open(left, end: scene.leftName, purpose: "switch")
    return try await closing(connection) { try await end(on: connection, until: deadline) }
  }

  private func end(on connection: Connection, until deadline: ContinuousClock.Instant) async throws -> String
  {
    let first = try await sessions(on: connection)
    let patience = min(.now + step.grace, deadline)
    let idle = try await terminate(first, idleOnly: .now < patience, on: connection)
    while true {
      let open = try await sessions(on: connection).intersection(first)
      guard !open.isEmpty else { break }
      guard .now < deadline else {
        throw SwitchFailure("\(open.count) sessions have not ended")
      }
      try await Task.sleep(for: Self.poll)
      _ = try await terminate(open, idleOnly: .now < patience, on: connection)
    }
    let new = try await sessions(on: connection).count
    let came = new == 0 ? "" : "; \(new) have come since: their address still leads here"
    return "ended \(idle) sessions at once, \(first.count - idle) after what they were doing\(came)"
  }

  /// The pids of sessions that are to end.
  private func sessions(on connection: Connection) async throws -> Set<Int32> {
    let rows = try await connection.query(
      "SELECT a.pid \(Self.chosen)", parameters, doing: "looking for the application's sessions",
      within: Self.answerLimit)
    return Set(try rows.map { try $0.integer("pid", as: Int32.self) })
  }

  /// - Parameter idleOnly: only those outside of transactions.
  /// - Returns: how many.
  private func terminate(
    _ pids: Set<Int32>, idleOnly: Bool, on connection: Connection
  ) async throws -> Int {
    let condition = idleOnly ? "AND a.state = 'idle'" : ""
    let rows = try await connection.query(
      """
      SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(t.pid)) AS ended
      FROM (SELECT a.pid \(Self.chosen) AND a.pid = ANY ($3::integer[]) \(condition) OFFSET 0) t
      """, parameters + [SQL.array(pids.map(String.init))], doing: "ending the application's sessions",
      within: Self.answerLimit)
    return try rows.first?.integer("ended") ?? 0
  }

  private var parameters: [String?] { [SQL.array(step.roles), SQL.array(step.addresses)] }

  /// Ours are known by their role and name; a superuser's only a superuser may end.
  private static let chosen = """
    FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
    WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend'
      AND NOT (r.rolname = CURRENT_USER AND a.application_name LIKE 'replicate %')
      AND (NOT r.rolsuper OR (SELECT o.rolsuper FROM pg_catalog.pg_roles o WHERE o.rolname = CURRENT_USER))
      AND ($1::text[] = '{}' OR r.rolname = ANY ($1::text[]))
      AND ($2::text[] = '{}' OR EXISTS (SELECT FROM pg_catalog.unnest($2::text[]) n
        WHERE a.client_addr <<= n::pg_catalog.inet))
    """
}
