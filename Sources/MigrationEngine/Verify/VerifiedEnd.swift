import LibPQ

/// One end under its snapshot: as many sessions as there are jobs, each in a read-only transaction.
struct VerifiedEnd: Sendable {
  let end: ComparedTable.End
  let side: Verification.Side
  /// The name of the snapshot that all sessions share; nil while they are idle, and where writes are stopped.
  private(set) var snapshot: String?
  let sessions: [Connection]
  /// Holds the snapshot when it is one of our own.
  private let holder: Connection?
  /// 150004 is 15.4.
  let versionNumber: Int
  let version: String
  let encoding: String

  /// The sessions are idle until `begun()`.
  static func open(_ side: Verification.Side, _ end: ComparedTable.End, jobs: Int) async throws -> VerifiedEnd
  {
    let count = max(1, jobs) + (side.snapshot == nil ? 1 : 0)
    let opened = try await withThrowingTaskGroup(of: Connection.self) { group in
      for _ in 0..<count { group.addTask { try await open(side) } }
      // If one cannot be opened, the others are closed again.
      var opened: [Connection] = []
      var failure: (any Error)?
      while let result = await group.nextResult() {
        switch result {
        case .success(let connection): opened.append(connection)
        case .failure(let error):
          failure = failure ?? error
          group.cancelAll()
        }
      }
      guard let failure else { return opened }
      for connection in opened { await connection.close() }
      throw failure
    }
    do {
      return try await VerifiedEnd(side, end, opened)
    } catch {
      for connection in opened { await connection.close() }
      throw error
    }
  }

  private init(
    _ side: Verification.Side, _ end: ComparedTable.End, _ opened: [Connection]
  ) async throws {
    (self.side, self.end) = (side, end)
    holder = side.snapshot == nil ? opened.last : nil
    sessions = side.snapshot == nil ? opened.dropLast() : opened
    let rows = try await sessions[0].query(
      """
      SELECT pg_catalog.current_setting('server_version') AS version,
        pg_catalog.current_setting('server_encoding') AS encoding
      """, doing: "asking for the \(side.end)'s version", within: .seconds(30))
    versionNumber = try await sessions[0].serverVersion()
    version = try rows.first?.text("version") ?? ""
    encoding = try rows.first?.text("encoding") ?? ""
  }

  /// Under the given snapshot, or else a current one.
  func begun() async throws -> VerifiedEnd {
    var begun = self
    let name = if let holder { try await Self.export(holder) } else { side.snapshot ?? "" }
    begun.snapshot = name
    try await forEachSession { try await Self.takeOver(name, on: $0, with: Self.begin) }
    return begun
  }

  /// Each session under its own snapshot, for an end that nobody changes: that takes one round trip.
  func beginHeldStill() async throws {
    try await forEachSession { [side] in
      try await $0.query(Self.begin, doing: "beginning to compare the \(side.end)", within: .seconds(30))
    }
  }

  /// Releases the snapshot and every lock.
  func rest() async throws {
    await holder?.rollback()
    try await forEachSession { [side] in
      try await $0.query("COMMIT", doing: "ending a comparison of the \(side.end)", within: .seconds(30))
    }
  }

  private func forEachSession(_ body: @escaping @Sendable (Connection) async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for session in sessions { group.addTask { try await body(session) } }
      try await group.waitForAll()
    }
  }

  /// For catalogs, and whatever needs only one.
  var first: Connection { sessions[0] }

  func close() async {
    for session in sessions { await session.close() }
    await holder?.close()
  }

  private static let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

  private static func export(_ connection: Connection) async throws -> String {
    let action = "exporting a snapshot of the \(connection.end)"
    try await connection.query(begin, doing: action, within: .seconds(30))
    let rows = try await connection.query(
      "SELECT pg_catalog.pg_export_snapshot() AS name", doing: action, within: .seconds(30))
    return try rows.first?.text("name") ?? ""
  }

  private static let settings = [
    Session.Setting("max_parallel_workers_per_gather", "0"), Session.Setting("jit", "off", since: 110_000),
    Session.Setting("lock_timeout", "60s"),
    Session.Setting("plan_cache_mode", "force_generic_plan", since: 120_000),
  ]

  private static func open(_ side: Verification.Side) async throws -> Connection {
    let action = "preparing a session to compare in"
    let connection = try await Session.open(side.connection, end: side.end, purpose: "verify")
    do {
      try await Session.noticeLostClient(of: connection)
      // No parallelism beyond the jobs, and no statement is worth compiling, or replanning for other keys. A
      // long table lock must not block for ever.
      try await Session.set(settings, on: connection, doing: action)
      try await connection.query(
        Session.readingTablesOnly(isLocal: false), doing: action, within: .seconds(30))
      return connection
    } catch {
      await connection.close()
      throw error
    }
  }

  private static func takeOver(_ snapshot: String, on connection: Connection, with begin: String) async throws
  {
    try await connection.query(
      """
      \(begin); SET TRANSACTION SNAPSHOT \(SQL.literal(snapshot))
      """, doing: "taking over the exported snapshot of the \(connection.end)", within: .seconds(30))
  }

  /// A table that was read stays locked against TRUNCATE and ALTER TABLE, by users and by the stream, until
  /// its reader's transaction ends.
  private static let longestTransaction = Duration.seconds(1)

  func unlock(_ session: Connection) async throws {
    guard let snapshot else {
      try await session.query(
        "COMMIT; \(Self.begin)", doing: "continuing to compare the \(side.end)", within: .seconds(30))
      return
    }
    try await Self.takeOver(snapshot, on: session, with: "COMMIT; \(Self.begin)")
  }

  /// Does all the work, in order, with all sessions at once; locks are kept for about a second.
  func perform<Work: Sendable>(
    _ work: [Work], _ body: @escaping @Sendable (Work, Connection) async throws -> Void
  ) async throws {
    let queue = WorkQueue(work)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for session in sessions.prefix(work.count) {
        group.addTask {
          var began = ContinuousClock.now
          while let piece = await queue.next() {
            try Task.checkCancellation()
            try await body(piece, session)
            guard began.duration(to: .now) > Self.longestTransaction else { continue }
            try await unlock(session)
            began = .now
          }
          try await unlock(session)
        }
      }
      // A failure ends the others at once, instead of being reported when everything has been read.
      while try await group.next() != nil {}
    }
  }
}
