import LibPQ

/// Sees whether a server has been restarted: `pg_postmaster_start_time()` differs.
struct RestartWatch: Sendable {
  let source: ConnectionString
  /// As the server printed it before.
  let startedBefore: String

  private static let pause = Duration.milliseconds(200)

  static func began(with connection: Connection, _ source: ConnectionString) async throws -> RestartWatch {
    RestartWatch(source: source, startedBefore: try await state(of: connection).started)
  }

  enum Look: Sendable {
    /// As it was before.
    case same
    case restarted(Connection)
    /// Not there, or not ready yet: the newest answer.
    case away(PostgresError)
  }

  /// - Throws: `PostgresError` when the server is there and refuses our session.
  func look() async throws -> Look {
    do {
      let session = try await Session.open(source, end: "source", purpose: "prepare")
      do {
        let state = try await Self.state(of: session)
        if state.started == startedBefore {
          await session.close()
          return .same
        }
        if !state.isStandby { return .restarted(session) }
        await session.close()
        return .away(
          PostgresError(
            code: .connection, action: "source: asking whether it takes writes",
            message: "recovery is in progress"))
      } catch {
        await session.close()
        throw error
      }
    } catch let error as PostgresError where error.isConnectionLoss || error.mayPass {
      // A login that is refused will be refused again.
      guard error.sqlState?.errorClass != "28", error.sqlState != .invalidPassword else { throw error }
      return .away(error)
    }
  }

  /// - Parameter patience: how long the server may be as it was; nil: until the deadline.
  /// - Returns: a session of the restarted server.
  /// - Throws: `NotRestarted`, or `Away` at the deadline.
  func session(
    until deadline: ContinuousClock.Instant, patience: Duration?
  ) async throws -> Connection {
    let began = ContinuousClock.now
    while true {
      let isLast = .now + Self.pause >= deadline
      switch try await look() {
      case .restarted(let session): return session
      case .same:
        if isLast { throw NotRestarted() }
        if let patience, .now > began + patience { throw NotRestarted() }
      case .away(let error): if isLast { throw Away(newest: error.message) }
      }
      try await Task.sleep(for: Self.pause)
    }
  }

  /// The server is the one that it was.
  struct NotRestarted: Error {}

  struct Away: Error {
    var newest: String
  }

  private static func state(of connection: Connection) async throws -> (started: String, isStandby: Bool) {
    let rows = try await connection.query(
      """
      SELECT pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) AS started,
        pg_catalog.pg_is_in_recovery() AS is_standby
      """, doing: "asking the source since when it runs", within: .seconds(15))
    guard let row = rows.first else { return ("", false) }
    return (try row.text("started"), try row.bool("is_standby"))
  }
}
