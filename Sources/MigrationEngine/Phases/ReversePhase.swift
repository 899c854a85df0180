import LibPQ
import Logging
import LogicalReplication

/// After the cutover: the target's writes flow back to the sealed source, until a rollback is complete or
/// `replicate finish` ends it.
struct ReversePhase: PhasePart {
  let context: PhaseContext
  let tables: MigratedTables
  let way: StoredReverseReplication

  private let pass = WriteFence.Pass()
  private let gate = VerificationGate()

  enum End: Sendable {
    case rolledBack(Status.Cutover)
    /// `replicate finish` cleans up.
    case finished
  }

  /// - Throws: also when the source is not in the expected state: nothing is written to it then.
  func streamBack() async throws -> End {
    guard let slot = SlotName(way.slot) else { throw changed }
    let interrupted = try await interruptedRollback()
    switch try await SourceState(ends.source).fence() {
    case .sealed:
      // Event triggers that write would fail.
      try await Session.actAsReplica(ends.source)
      try await WriteFence(ends.source).admit(pass)
      try await makeReady()
    // The rollback that another engine began has opened it.
    case .open where interrupted != nil: break
    case .open, .fenced, nil: throw changed
    }
    let openedLSN = try await openedLSN(slot)
    try await StateStore(ends.source).createProgress()
    if try await StateStore(ends.source).progress() == nil {
      try await StateStore(ends.source).beginProgress(at: openedLSN)
    }
    var resuming = interrupted
    while true {
      let session = try await streamSession(slot, openedLSN)
      do {
        return try await turn(session, resuming)
      } catch let new as NewTable {
        try await wait(for: new, session.monitor)
      }
      resuming = try await interruptedRollback()
    }
  }

  /// What committed on the target before it came from the source.
  private func openedLSN(_ slot: SlotName) async throws -> LSN {
    if let known = way.openedLSN { return known }
    let search = CommitSearch(
      from: options.target, end: "target", slot: slot, publication: way.publication)
    guard let xid = way.openedXID, let lsn = try await search.commitLSN(of: xid) else { throw changed }
    try await store.store(openedLSN: lsn)
    return lsn
  }

  private func turn(_ session: RollbackPhase.Session, _ interrupted: StoredCutover?) async throws -> End {
    // Changes that pass the target's seal must not go to a source that may have taken other writes.
    if interrupted != nil, try await SourceState(ends.source).fence() == .open { session.monitor.hold() }
    let rollback = RollbackPhase(
      context: context, passing: pass.applied(to: options.source), tables: tables,
      publication: way.publication, session: session)
    return try await withThrowingTaskGroup(of: End?.self) { group in
      group.addTask {
        try await session.stream.follow()
        return nil
      }
      group.addTask { try await conduct(rollback, interrupted) }
      group.addTask {
        try await RequestedVerifications(
          context: context, direction: .back, monitor: session.monitor, tables: tables, gate: gate
        ).answer()
        return nil
      }
      defer { group.cancelAll() }
      guard let end = try await group.next() ?? nil else { throw CancellationError() }
      return end
    }
  }

  /// Takes requests until the reverse stream is no longer needed.
  private func conduct(_ rollback: RollbackPhase, _ interrupted: StoredCutover?) async throws -> End {
    if let interrupted,
      let report = try await gate.during({ try await rollback.resume(interrupted) })
    {
      return .rolledBack(report)
    }
    var nextLook = ContinuousClock.now
    var owed: LateChanges.Left? = LateChanges.Left()
    while true {
      if try await store.isFinishRequested() { return .finished }
      if .now >= nextLook {
        do {
          try await settle(&owed)
          try await rollback.lookForOtherTables()
        } catch let error as PostgresError where error.isAnswered || error.mayPass {
          logger.warning("could not look for other tables", metadata: ["why": "\(error)"])
        }
        nextLook = .now + Self.tablesPause
      }
      if let requested = try await store.requestedCutover() {
        if let report = try await gate.during({ try await rollback.rollBack(requested) }) {
          return .rolledBack(report)
        }
      }
      try await Task.sleep(for: .milliseconds(250))
    }
  }

  /// How often to look for tables whose changes do not go back.
  private static let tablesPause = Duration.seconds(5)

  /// - Parameter owed: what remains to be done on the target, as last reported; nil once nothing does.
  private func settle(_ owed: inout LateChanges.Left?) async throws {
    guard var reported = owed else { return }
    let settlement = Settlement(
      direction: .forward, source: ends.source, target: ends.target, logger: logger)
    let left = try await settlement.make()
    settlement.report(left, &reported)
    owed = left.isEmpty ? nil : reported
  }

  // MARK: Parts

  private func interruptedRollback() async throws -> StoredCutover? {
    guard let latest = try await store.latestCutover(), latest.state == .running,
      latest.request.direction == .back
    else { return nil }
    return latest
  }

  /// The stream carries explicit values for GENERATED ALWAYS columns, and triggers that fire for replicated
  /// changes would repeat what the target has done. Readers of the source that are in the way are waited for,
  /// not terminated.
  private func makeReady() async throws {
    var reported = LateChanges.Left()
    while true {
      let relations = try await ReverseReplication.relations(
        of: ends.source, also: ends.target, excluded: tables.excluded)
      let left = try await LateChanges(connection: ends.source).make(
        try await IdentityColumns.relaxations(Catalog(relations: relations), on: ends.source)
          + SuspendedTriggers(connection: ends.source).holding(), within: .seconds(5))
      let isWaiting = !left.isEmpty
      board.update { $0.stream.waitsFor = isWaiting ? left.words : nil }
      guard isWaiting, try await !store.isFinishRequested() else { return }
      if left.obstacles.count != reported.obstacles.count {
        reported = left
        logger.warning("the reverse stream waits to begin", metadata: ["for": "\(left.words)"])
      }
      try await Task.sleep(for: .milliseconds(500))
    }
  }

  private func streamSession(_ slot: SlotName, _ openedLSN: LSN) async throws -> RollbackPhase.Session {
    guard let progress = try await StateStore(ends.source).progress() else { throw changed }
    let monitor = StreamMonitor(resuming: progress)
    board.beginStream(monitor)
    let stream = StreamSession(
      leg: Leg.Addresses(direction: .back, from: options.target, to: pass.applied(to: options.source)),
      slot: slot, publication: way.publication,
      tables: { try await streamTables(since: openedLSN, noting: monitor.messages) },
      monitor: monitor, logger: logger)
    return (stream, monitor)
  }

  /// What both ends have now, on its own connections: the stream asks while others work.
  private func streamTables(
    since openedLSN: LSN, noting sent: SentMessages
  ) async throws -> StreamTables {
    let source = try await Session.open(options.source, end: "source", purpose: "catalog")
    let target = try await Session.open(options.target, end: "target", purpose: "catalog")
    return try await closing(source, target) {
      try await tables.streamedBack(
        source: source, target: target, since: openedLSN, noting: sent)
    }
  }

  /// A partition created on the target after the cutover: the stream carries all its rows, once the source
  /// has it too.
  private func wait(for new: NewTable, _ monitor: StreamMonitor) async throws {
    let what = """
      \(new.error.reason); create it on the source as it is on the target, and the stream continues by itself
      """
    logger.warning("the reverse stream waits", metadata: ["for": "\(what)"])
    let before = try await missingOnSource()
    monitor.waits(for: what)
    defer { monitor.waits(for: nil) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        while try await missingOnSource() == before {
          if try await store.isFinishRequested() { return }
          try await refuseRequests(what)
          try await Task.sleep(for: .milliseconds(250))
        }
      }
      // Refused while the stream waits, so that the command learns of it as well.
      group.addTask {
        try await RequestedVerifications(
          context: context, direction: .back, monitor: monitor, tables: tables, gate: gate
        ).answer()
      }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  /// Requests made while the stream waits are refused at once, lest they be carried out much later.
  private func refuseRequests(_ what: String) async throws {
    guard let requested = try await store.requestedCutover() else { return }
    let record = CutoverRecord(board: board, store: store)
    var report = Status.Cutover(step: .aborted)
    report.direction = .back
    report.result = .aborted
    report.reason = what
    try await record.publish(report, requested)
    try await record.end(report, requested, .aborted, phase)
    logger.warning("the rollback was aborted", metadata: ["because": "\(what)"])
  }

  private func missingOnSource() async throws -> Set<RelationName> {
    let present = Set(try await Catalog.read(from: ends.source, measuring: false).relations.map(\.name))
    return Set(try await Catalog.read(from: ends.target, measuring: false).relations.map(\.name))
      .subtracting(present)
  }

  private var changed: MigrationError {
    MigrationError(
      .failed, doing: "carrying the target's writes back to the source",
      reason: "the source is not sealed as the cutover left it, or the state of reverse replication is gone",
      remedy: """
        Somebody changed schema replicate. Find out whether the source has taken writes; replicate finish \
        ends the way back.
        """)
  }
}
