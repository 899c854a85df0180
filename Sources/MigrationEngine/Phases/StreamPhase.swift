import LibPQ
import Logging
import LogicalReplication

/// The stream, and the cutovers attempted while it runs.
struct StreamPhase: PhasePart {
  let context: PhaseContext
  let session: (stream: StreamSession, monitor: StreamMonitor)
  let newTables: NewTables
  let cutover: CutoverPhase
  let cleanup: SourceCleanup

  private let gate = VerificationGate()

  /// How long to wait after an automatic cutover was aborted before the next.
  private static let retryPause = Duration.seconds(30)

  private var verification: RequestedVerifications {
    RequestedVerifications(
      context: context, direction: .forward, monitor: session.monitor, tables: cutover.tables, gate: gate)
  }

  /// What ends a run of the stream.
  private enum Turn: Sendable {
    case complete(Status.Cutover)
    /// These must be copied before the stream continues: nothing that commits at or after the snapshot's LSN
    /// was applied.
    case join(NewTables.Found, ExportedSnapshot)
    /// Their changes must no longer be applied.
    case setAside([UInt32: RelationName])
  }

  /// Streams until a cutover is complete.
  /// - Parameter resumesCutover: an engine before this one ended in the middle of a cutover.
  func streamUntilCutover(resumesCutover: Bool) async throws -> Status.Cutover {
    var resumesCutover = resumesCutover
    session.monitor.passes("the tables of both ends are being compared")
    if resumesCutover { try await lookForWhatPassed() }
    var number = 0
    while true {
      number += 1
      switch try await turn(number, resumesCutover: resumesCutover) {
      case .complete(let report):
        if await phase.current == .complete {
          // First what users may notice.
          _ = try await Settlement(
            direction: .forward, source: ends.source, target: ends.target, logger: logger
          ).make()
          try await cleanup.runOrSay()
        }
        return report
      case .join(let found, let snapshot): try await join(found, under: snapshot)
      case .setAside(let tables): try await newTables.setAside(tables)
      }
      resumesCutover = await phase.current == .cutover
    }
  }

  private func join(_ found: NewTables.Found, under snapshot: ExportedSnapshot) async throws {
    session.monitor.bound.lift()
    do {
      try await newTables.join(found, under: snapshot, session.monitor) {
        try await session.stream.follow(until: $0)
      }
    } catch let outdated as OutdatedTable {
      try await newTables.setAside(try await newTables.outdated(outdated))
    }
    try await TargetFence(ends.target).close()
  }

  /// Once the target has everything, later changes have passed the source's fence, and must not go to a
  /// target that may have taken other writes.
  private func lookForWhatPassed() async throws {
    guard try await store.latestCutover()?.report?.seal == .stands else { return }
    session.monitor.expectMarker("", for: .again)
    if try await TargetFence(ends.target).isOpen() { session.monitor.hold() }
  }

  private func turn(_ number: Int, resumesCutover: Bool) async throws -> Turn {
    do {
      return try await withThrowingTaskGroup(of: Turn?.self) { group in
        group.addTask {
          try await whileNeeded { try await session.stream.follow() }
          return nil
        }
        group.addTask { try await conduct(number, resumesCutover: resumesCutover) }
        group.addTask {
          try await whileNeeded { try await verification.answer() }
          return nil
        }
        defer { group.cancelAll() }
        guard let turn = try await group.next() ?? nil else { throw CancellationError() }
        return turn
      }
    } catch let outdated as OutdatedTable {
      return .setAside(try await newTables.outdated(outdated))
    }
  }

  /// Once the source is no longer needed, its failure ends nothing: the target is opened, and the application
  /// moved there. The body is retried: a source that returns may have more changes.
  private func whileNeeded(_ body: () async throws -> Void) async throws {
    var isReported = false
    while true {
      do {
        return try await body()
      } catch  where !board.needsSource && !Task.isCancelled {
        logger.log(
          level: isReported ? .debug : .warning,
          "the stream from the source has ended, and is no longer needed", metadata: ["why": "\(error)"])
        isReported = true
        try await Task.sleep(for: .seconds(1))
      }
    }
  }

  /// Takes requests for cutovers, and looks for new tables, until there is something to do without the
  /// stream.
  private func conduct(_ number: Int, resumesCutover: Bool) async throws -> Turn {
    if resumesCutover {
      if let report = try await gate.during({ try await cutover.resume() }) {
        return .complete(report)
      }
    } else {
      try await cutover.dismissInterrupted()
    }
    try await newTables.refusedSchema.report(session.monitor)
    var notBefore = ContinuousClock.now
    var nextLook = ContinuousClock.now
    while true {
      if options.cutover == .auto, .now >= notBefore, session.monitor.reading.waitsFor == nil,
        board.catchUp.isSteady(within: Self.automaticPauseSeconds)
      {
        var request = CutoverRequest(requestedBy: "the catch-up monitor")
        request.acceptedDifferences = options.acceptedDifferences
        try await store.request(request, in: [.streaming])
      }
      let requested = try await store.requestedCutover()
      if requested != nil || .now >= nextLook {
        let began = ContinuousClock.now
        await Failpoint.reached("before looking for tables in turn \(number)")
        do {
          if let turn = try await lookForTables(isAwaited: requested != nil) { return turn }
          if requested == nil { try await newTables.refusedSchema.retry(session.monitor) }
        } catch let error as PostgresError where error.isAnswered || error.mayPass {
          // It needs new sessions; the stream continues on those it has.
          reportUnseen(error)
        }
        // There may be tens of thousands of tables to look at.
        nextLook = .now + max(Self.tablesPause, (.now - began) * 20)
      }
      if let requested {
        if let report = try await gate.during({ try await cutover.cutOver(requested) }) {
          return .complete(report)
        }
        notBefore = .now + Self.retryPause
      }
      try await Task.sleep(for: .milliseconds(250))
    }
  }

  private func reportUnseen(_ error: PostgresError) {
    let words = "could not look for new tables or prepare them; retrying: \(error)"
    if session.monitor.isHeldUp(by: words) { logger.warning("\(words)") }
  }

  /// How often to look for new tables on the source, and for rewritten ones.
  private static let tablesPause = Duration.seconds(2)

  /// How long to wait, before a requested cutover, for transactions that keep tables from joining.
  private static let awaitedPatience = Duration.seconds(3)

  /// - Parameter isAwaited: a cutover was requested, and its requester is to learn soon why it cannot begin.
  private func lookForTables(isAwaited: Bool) async throws -> Turn? {
    let found = try await newTables.findDefined(session.monitor)
    if !found.outdated.isEmpty { return .setAside(found.outdated) }
    guard !found.isEmpty else { return nil }
    try await newTables.prepare(found)
    let limit = isAwaited ? Self.awaitedPatience : NewTables.slotLimit
    guard let snapshot = try await newTables.snapshot(session.monitor, within: limit) else { return nil }
    return .join(found, snapshot)
  }

  /// The longest write pause of an automatic cutover, in seconds.
  private static let automaticPauseSeconds = 2.0
}
