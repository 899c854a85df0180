import LibPQ
import LogicalReplication

/// The sessions on the target that apply changes: one per lane.
actor LaneSessions {
  private let target: ConnectionString
  private let end: String
  private let settings: UserSettings
  private let monitor: StreamMonitor
  private let main: Connection
  private var streamed: [UInt32: Connection] = [:]
  /// Kept for the next streamed transaction.
  private var spare: Connection?

  /// How many transactions may be streamed at the same time.
  private static let limit = 8

  /// - Parameters:
  ///   - end: what the target is called.
  ///   - settings: those under which checks, generated columns and the like are evaluated.
  ///   - monitor: receives what keeps a session from being opened.
  init(
    target: ConnectionString, end: String, settings: UserSettings, monitor: StreamMonitor
  ) async throws {
    self.target = target
    self.end = end
    self.settings = settings
    self.monitor = monitor
    main = try await Self.open(target, end, settings)
  }

  private static func open(
    _ target: ConnectionString, _ end: String, _ settings: UserSettings
  ) async throws -> Connection {
    let connection = try await Session.open(target, end: end, purpose: "apply")
    try await settings.apply(to: connection)
    try await Session.set(conduct, on: connection, doing: "preparing the session that applies changes")
    return connection
  }

  /// How long until a refused login is retried.
  private static let loginPause = Duration.seconds(2)

  /// A session for a streamed transaction, as soon as the server admits one: a refusal, as when a password
  /// has expired, is no reason to end the existing sessions.
  private func openStreamed() async throws -> Connection {
    defer { monitor.isKeptOut(nil) }
    while true {
      do {
        let session = try await Self.open(target, end, settings)
        try await Self.limitWaits(of: session)
        return session
      } catch let error as PostgresError where error.isAnswered {
        monitor.isKeptOut("the \(end) admits no new session; retrying: \(error.message)")
        try await Task.sleep(for: Self.loginPause)
      }
    }
  }

  private static func limitWaits(of session: Connection, to seconds: Int = lockWaitSeconds) async throws {
    try await session.query(
      "SET lock_timeout = '\(seconds)s'", doing: "preparing the session that applies changes")
  }

  /// Whatever a lane has locked on the target, its transaction has locked on the source, so no lane should
  /// ever wait for another. If one does, it must not be for ever: the other lane is applied after it. A lane
  /// that is alone waits only for other sessions' locks, for as long as they last.
  private static let lockWaitSeconds = 5

  private static let conduct =
    [
      // No trigger or rule of the user's fires.
      Session.Setting("session_replication_role", "replica"),
      // What is confirmed to the source waits for a later commit that is flushed.
      Session.Setting("synchronous_commit", "off"),
      Session.Setting("jit", "off"),
      // The rows of a chunk stay in memory on their way into the join.
      Session.Setting("work_mem", "64MB"),
      Session.Setting("enable_memoize", "off", since: ServerFeature.memoize.since),
    ]
    // Rows are looked up by their keys, whatever the statistics say.
    + ["seqscan", "bitmapscan", "hashjoin", "mergejoin", "material"].map {
      Session.Setting("enable_\($0)", "off")
    }

  var hasStreamed: Bool { !streamed.isEmpty }

  /// - Throws: `StreamingRefusal` when too many transactions are streamed at the same time.
  func session(for lane: Lane) async throws -> Connection {
    guard case .streamed(let xid) = lane else { return main }
    if let session = streamed[xid] { return session }
    guard streamed.count < Self.limit else {
      throw StreamingRefusal(
        reason: MigrationError(
          .failed, doing: "streaming source transaction \(xid)",
          reason: "\(Self.limit) others are streamed at the same time"))
    }
    let session: Connection
    if let spare {
      session = spare
    } else {
      session = try await openStreamed()
    }
    spare = nil
    if streamed.isEmpty { try await Self.limitWaits(of: main) }
    streamed[xid] = session
    return session
  }

  /// The lane's transaction has ended.
  func release(_ lane: Lane) async throws {
    guard case .streamed(let xid) = lane, let session = streamed.removeValue(forKey: xid) else { return }
    if streamed.isEmpty { try await Self.limitWaits(of: main, to: 0) }
    if spare == nil { spare = session } else { await session.close() }
  }

  /// Whatever is not committed is rolled back.
  func close() async {
    for session in [main, spare].compactMap({ $0 }) + streamed.values { await session.close() }
    streamed = [:]
    spare = nil
  }
}
