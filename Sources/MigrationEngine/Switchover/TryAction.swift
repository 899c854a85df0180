import LibPQ

/// Step `try`: connects as the application will, and runs a statement: once before the fence, where
/// everything can still be undone, and again when its turn comes.
struct TryAction: SwitchAction {
  let step: SwitchStep.Trial

  private static let limit = Duration.seconds(10)

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    do {
      _ = try await attempt(scene, runsStatement: scene.isAttempt, until: .now + Self.limit)
      return []
    } catch {
      return [
        .blocker(
          "The application could not use the \(scene.nextName): \(error)",
          "Mend what the server says, or the step's connection.")
      ]
    }
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    try await attempt(scene, runsStatement: true, until: deadline)
  }

  private func attempt(
    _ scene: SwitchScene, runsStatement: Bool, until deadline: ContinuousClock.Instant
  ) async throws -> String {
    guard let string = step.connection else { return "no rollback-connection was given to try" }
    // As it is: an application sets none of our settings, and a pooler might refuse them.
    let connection = try await Connection.open(
      string.settingDefault("connect_timeout", to: "10"), end: "application's \(scene.nextName)")
    return try await closing(connection) {
      let reached = try await Self.identity(of: connection, until: deadline)
      if let next = scene.connections?.next {
        let ours = try await Session.open(next, end: scene.nextName, purpose: "switch")
        let expected = try await closing(ours) { try await Self.identity(of: ours, until: deadline) }
        guard reached == expected else {
          throw SwitchFailure("its connection leads to another database than the \(scene.nextName)")
        }
      }
      guard runsStatement else { return "connected" }
      try await connection.query(
        step.statement, doing: "running the statement of the step", within: max(.zero, deadline - .now))
      return "connected, and ran its statement"
    }
  }

  /// Only the running server has its start time, which has microsecond precision.
  private static func identity(
    of connection: Connection, until deadline: ContinuousClock.Instant
  ) async throws -> String {
    let rows = try await connection.query(
      """
      SELECT pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) || ' ' || d.oid AS identity
      FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
      """, doing: "asking which server this is", within: max(.zero, deadline - .now))
    return try rows.first?.text("identity") ?? ""
  }
}
