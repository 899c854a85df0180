import LibPQ
import Logging
import LogicalReplication

/// The stream, and the cutovers that are tried while it runs.
struct StreamPhase: Sendable {
  let options: MigrationOptions
  let logger: Logger
  let ends: Endpoints
  let board: StatusBoard
  let phase: PhaseRecord
  let slot: ReplicationSlot
  let publication: Publication
  let tables: MigratedTables
  let session: (stream: StreamSession, monitor: StreamMonitor)
  private let newTables: NewTables

  private let gate = VerificationGate()
  private let comparedSchemas = ComparedSchemas()

  init(
    options: MigrationOptions, logger: Logger, ends: Endpoints, board: StatusBoard,
    phase: PhaseRecord, slot: ReplicationSlot, publication: Publication, tables: MigratedTables,
    session: (stream: StreamSession, monitor: StreamMonitor), newTables: NewTables
  ) {
    self.options = options
    self.logger = logger
    self.ends = ends
    self.board = board
    self.phase = phase
    self.slot = slot
    self.publication = publication
    self.tables = tables
    self.session = session
    self.newTables = newTables
  }

  /// How long an automatic cutover that was aborted waits before it tries again.
  private static let retryPause = Duration.seconds(30)

  private var store: StateStore { StateStore(ends.target) }
  private var record: CutoverRecord { CutoverRecord(board: board, store: store) }
  private var switching: SwitchSteps { SwitchSteps(options: options, ends: ends, logger: logger) }
  private var copy: CopyPhase {
    CopyPhase(
      options: options, logger: logger, ends: ends, board: board, refused: newTables.refused)
  }
  private var wayBack: ReverseReplication {
    ReverseReplication(options: options, ends: ends, excluded: tables.excluded, logger: logger)
  }
  private var verification: RequestedVerifications {
    RequestedVerifications(
      direction: .forward, options: options, board: board, monitor: session.monitor, tables: tables,
      logger: logger, gate: gate)
  }
  private var schemas: SchemaAgreement {
    SchemaAgreement(
      direction: .forward, options: options, ends: ends, tables: tables, logger: logger,
      compared: comparedSchemas)
  }

  /// What ends a run of the stream.
  private enum Turn: Sendable {
    case complete(Status.Cutover)
    /// Must be copied before the stream goes on: nothing was applied that commits at or beyond the snapshot's
    /// LSN.
    case join(NewTables.Found, ExportedSnapshot)
    /// Their changes must not be applied any more.
    case setAside([UInt32: RelationName])
  }

  /// Streams until a cutover is complete.
  /// - Parameter resumesCutover: an engine before this one ended in the middle of a cutover.
  func run(resumesCutover: Bool) async throws -> Status.Cutover {
    var resumesCutover = resumesCutover
    _ = session.monitor.isHeldUp(by: "the tables of both ends are being compared")
    if resumesCutover { try await lookForWhatPassed() }
    var number = 0
    while true {
      number += 1
      switch try await turn(number, resumesCutover: resumesCutover) {
      case .complete(let report):
        if await phase.current == .complete {
          // First what users may see.
          _ = try await Settlement(
            direction: .forward, source: ends.source, target: ends.target, logger: logger
          ).make()
          try await cleanUpOrTell()
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
        try await session.stream.run(until: $0)
      }
    } catch let outdated as OutdatedTable {
      try await newTables.setAside(try await newTables.outdated(outdated))
    }
    try await TargetFence(ends.target).close()
  }

  /// Where the target had everything that was to come, what comes has passed the guard of the source; and it
  /// is not for a target that may have taken other writes.
  private func lookForWhatPassed() async throws {
    guard try await store.latestCutover()?.report?.isSealed == true else { return }
    session.monitor.expectMarker("", for: .again)
    if try await TargetFence(ends.target).isOpen() { session.monitor.hold() }
  }

  private func turn(_ number: Int, resumesCutover: Bool) async throws -> Turn {
    do {
      return try await withThrowingTaskGroup(of: Turn?.self) { group in
        group.addTask {
          try await whileNeeded { try await session.stream.run() }
          return nil
        }
        group.addTask { try await conduct(number, resumesCutover: resumesCutover) }
        group.addTask {
          try await whileNeeded { try await verification.run() }
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

  /// What fails for a source that is not needed any more ends nothing: what goes on opens the target, and
  /// leads the application there. It is tried again: a source that is back may have more to tell.
  private func whileNeeded(_ body: () async throws -> Void) async throws {
    var isTold = false
    while true {
      do {
        return try await body()
      } catch  where !board.needsSource && !Task.isCancelled {
        logger.log(
          level: isTold ? .debug : .warning,
          "what comes from the source has ended, and is not needed any more", metadata: ["why": "\(error)"])
        isTold = true
        try await Task.sleep(for: .seconds(1))
      }
    }
  }

  /// Removes what the stream needed on the source. The guard stays: it is what keeps the old database from
  /// being written to.
  static func cleanUp(_ source: Connection, slot: ReplicationSlot, publication: Publication) async throws {
    try await Session.actAsReplica(source)
    try await slot.drop(on: source)
    try await publication.drop(on: source)
  }

  /// How long it is tried to reach a source that was lost after the seal, to clean it.
  private static let cleanUpPatience = Duration.seconds(20)

  private func cleanUpOrTell() async throws {
    let deadline = ContinuousClock.now + Self.cleanUpPatience
    var source = ends.source
    while true {
      do {
        try await Self.cleanUp(source, slot: slot, publication: publication)
        if source !== ends.source { await source.close() }
        return
      } catch let error as PostgresError where error.isConnectionLoss {
        logger.warning("the source could not be cleaned", metadata: ["why": "\(error)"])
      }
      guard ContinuousClock.now < deadline else { break }
      try await Task.sleep(for: .milliseconds(500))
      do {
        source = try await Session.open(options.source, end: "source", purpose: "engine")
      } catch let error as PostgresError where error.isConnectionLoss {
        logger.debug("the source cannot be reached", metadata: ["why": "\(error)"])
      }
    }
    try await Self.leaveSource(slot: slot.name.description, store, logger)
  }

  /// The cutover is complete without it.
  static func leaveSource(slot: String, _ store: StateStore, _ logger: Logger) async throws {
    try await store.note("the source could not be cleaned: slot \(slot) and the publication are there still")
    logger.warning(
      "the source could not be cleaned: its slot and publication are there still",
      metadata: [
        "slot": "\(slot)",
        "remedy": "run replicate start when it lets us in; if it is lost, replicate finish --without-source",
      ])
  }

  /// Takes requests for cutovers, and looks for new tables, until there is something to do without the
  /// stream.
  private func conduct(_ number: Int, resumesCutover: Bool) async throws -> Turn {
    if resumesCutover {
      if let report = try await gate.during({ try await resumeCutover() }) {
        return .complete(report)
      }
    } else {
      try await dismissInterrupted()
    }
    try await newTables.unmade.tell(session.monitor)
    var notBefore = ContinuousClock.now
    var nextLook = ContinuousClock.now
    while true {
      if options.cutover == .auto, .now >= notBefore, session.monitor.reading.waitsFor == nil,
        board.catchUp.isSteady(within: Self.automaticPauseSeconds)
      {
        try await store.request(
          CutoverRequest(
            requestedBy: "the catch-up monitor", acceptedDifferences: options.acceptedDifferences),
          in: [.streaming])
      }
      let requested = try await store.requestedCutover()
      if requested != nil || .now >= nextLook {
        let began = ContinuousClock.now
        await Failpoint.reached("before looking for tables in turn \(number)")
        do {
          if let turn = try await lookForTables(isAwaited: requested != nil) { return turn }
          if requested == nil { try await newTables.unmade.retry(session.monitor) }
        } catch let error as PostgresError where error.isAnswered || error.mayPass {
          // It takes new sessions, and what the stream has goes on without them.
          tellUnseen(error)
        }
        // What is looked at may be tens of thousands of tables.
        nextLook = .now + max(Self.tablesPause, (.now - began) * 20)
      }
      if let requested {
        if let report = try await gate.during({ try await cutOver(requested) }) {
          return .complete(report)
        }
        notBefore = .now + Self.retryPause
      }
      try await Task.sleep(for: .milliseconds(250))
    }
  }

  private func tellUnseen(_ error: PostgresError) {
    let words = "new tables cannot be looked for or prepared, which is tried again: \(error)"
    if session.monitor.isHeldUp(by: words) { logger.warning("\(words)") }
  }

  /// How often it is looked for new tables on the source, and for those that were written anew.
  private static let tablesPause = Duration.seconds(2)

  /// How long transactions are waited for that keep tables from joining before a cutover that was asked for.
  private static let awaitedPatience = Duration.seconds(3)

  /// - Parameter isAwaited: somebody has asked for a cutover, and is to hear soon why it cannot begin.
  private func lookForTables(isAwaited: Bool) async throws -> Turn? {
    let found = try await newTables.findDefined(session.monitor)
    if !found.outdated.isEmpty { return .setAside(found.outdated) }
    guard !found.isEmpty else { return nil }
    try await newTables.prepare(found)
    let limit = isAwaited ? Self.awaitedPatience : NewTables.slotLimit
    guard let snapshot = try await newTables.snapshot(session.monitor, within: limit) else { return nil }
    return .join(found, snapshot)
  }

  /// What the write pause may be for a cutover that begins by itself, in seconds.
  private static let automaticPauseSeconds = 2.0

  // MARK: One cutover

  /// - Returns: the report; nil when it was aborted.
  private func cutOver(_ requested: StoredCutover) async throws -> Status.Cutover? {
    logger.info("cutover requested", metadata: ["by": "\(requested.request.requestedBy)"])
    var report = Status.Cutover(step: "prepare")
    try await record.tell(report, requested)
    do {
      if let obstacle = session.monitor.reading.obstacle {
        throw MigrationError(
          .failed, doing: "comparing the source's tables with the migrated ones", reason: obstacle)
      }
      for end in [ends.source, ends.target] { try await SystemPrivileges.verify(on: end) }
      try await tables.verify(source: ends.source, target: ends.target, publication: publication.name)
      try await newTables.unmade.ensure(accepted: requested.request.acceptedDifferences ?? [])
      try await schemas.run(for: requested, &report, record)
      try await refreshMaterializedViews()
      try await switching.verify(store)
      try await wayBack.prepare()
    } catch  where !CutoverRecord.endsAttempt(error) {
      report.result = .aborted
      report.reason = "\(error)"
      return try await conclude(report, requested)
    }
    try await phase.advance(.cutoverBegun)
    let prelude = report
    return try await conclude(
      try await cutover(for: requested).run(requested.request, after: prelude), requested)
  }

  /// One that stays as it was on the target is no staler than the source's; one without rows there, where the
  /// source has some, would fail every reader.
  private func refreshMaterializedViews() async throws {
    let failures = try await MaterializedViews.refresh(from: ends.source, to: ends.target, options.target)
    for failure in failures {
      logger.warning("\(failure.words)", metadata: ["remedy": "\(failure.remedy)"])
      try await store.note(failure.words)
    }
    let empty = failures.filter { !$0.hasData }
    guard !empty.isEmpty else { return }
    throw MigrationError(
      .failed, doing: "refreshing the target's materialized views",
      reason: empty.map(\.words).joined(separator: "\n  "),
      remedy: empty.map(\.remedy).joined(separator: "\n  "))
  }

  /// A cutover that was begun and had not come to its fence when a connection was lost: who follows it
  /// must hear.
  private func dismissInterrupted() async throws {
    // What it had made for the way back would keep the target's WAL.
    try await wayBack.remove()
    guard let latest = try await store.latestCutover(), latest.state == .running else { return }
    var report = latest.report ?? Status.Cutover(step: "prepare")
    report.step = "aborted"
    report.result = .aborted
    report.reason = "the engine lost a connection, or ended, before the fence"
    try await record.end(report, latest, .aborted, phase)
  }

  /// What an engine that died in a cutover left: before the seal it is undone, after it finished.
  private func resumeCutover() async throws -> Status.Cutover? {
    let fence = try await SourceState(ends.source).fence() ?? .open
    guard let interrupted = try await store.latestCutover() else {
      throw MigrationError(
        .failed, doing: "resuming a cutover", reason: "the target's state has no cutover",
        remedy: "Schema replicate of the target was changed: abort this migration and begin a new one.")
    }
    logger.warning("an engine ended in the middle of a cutover", metadata: ["fence": "\(fence.rawValue)"])
    guard fence == .sealed || interrupted.report?.isSealed != true else {
      throw MigrationError(
        .failed, doing: "resuming a cutover",
        reason: "the source was sealed and is not any more: a failover or a restore may have lost the seal",
        remedy: "What it takes now is lost. Stop it: without the source the engine finishes the cutover.")
    }
    if interrupted.state != .running {
      try await record.tell(interrupted.report ?? Status.Cutover(step: "resume"), interrupted)
    }
    try await switching.warnOfPausedPoolers(SwitchLog(store: store, cutover: interrupted.id))
    let report = try await cutover(for: interrupted).resume(
      from: fence, request: interrupted.request, earlier: interrupted.report)
    return try await conclude(report, interrupted)
  }

  private func conclude(_ report: Status.Cutover, _ cutover: StoredCutover) async throws -> Status.Cutover? {
    let undone: PhaseMachine.Event? = await phase.current == .cutover ? .cutoverAborted : nil
    switch report.result {
    case .complete:
      let isOpenWithWayBack = try await store.wayBack()?.openedLSN != nil
      try await record.end(
        report, cutover, .complete, phase, isOpenWithWayBack ? .targetOpenedWithWayBack : .targetOpened)
      return report
    case .rehearsed:
      try await record.end(report, cutover, .rehearsed, phase, undone)
      logger.info("the cutover was rehearsed", metadata: ["pause": "\(report.writePauseSeconds ?? 0) s"])
    case .aborted, nil:
      try await record.end(report, cutover, .aborted, phase, undone)
      logger.warning("the cutover was aborted", metadata: ["because": "\(report.reason ?? "")"])
    }
    try await wayBack.remove()
    return nil
  }

  private func cutover(for stored: StoredCutover) async throws -> Cutover {
    let monitor = session.monitor
    let drain = Drain(direction: .forward, monitor: monitor, board: board)
    // Read before the fence: nobody waits for it there.
    let catalog = try await tables.migrated(from: ends.source)
    let switchover = try await switching.switchover(SwitchLog(store: store, cutover: stored.id))
    let (store, record) = (store, record)
    try await store.store(
      needs: SourceLoss.Needs(
        identityColumns: IdentityColumns.always(in: catalog),
        source: try await SwitchSteps.end(ends.source)), of: stored.id)
    return Cutover(
      from: options.source, to: options.target,
      stages: Cutover.Stages(
        lag: { board.catchUp.reading.lag },
        expectMarker: { monitor.expectMarker($0) },
        drain: { try await drain.wait(for: $0, until: $1) },
        forgetMarker: { monitor.forgetMarker() },
        ensureNoBreach: { try drain.ensureNoBreach() }, passing: drain.passing,
        finalisingSeconds: {
          try await tables.finalisingSeconds(catalog, to: ends.target) {
            try await copy.syncLargeObjects()
          }
        },
        ensureSchemas: { try await schemas.again(stored.request) },
        finaliseTables: {
          let changed = try await copy.syncLargeObjects()
          return try await tables.finalise(catalog, ends: ends, options: options)
            + ", \(changed) large objects"
        },
        comparison: CutoverComparison(
          extent: stored.request.verification, direction: .forward, options: options, ends: ends,
          monitor: monitor, tables: tables, relations: catalog.relations,
          names: try await tables.names(on: ends.source),
          syncLargeObjects: { _ = try await copy.syncLargeObjects() }, logger: logger
        ).comparison,
        // Not before the seal: until then the stream may have to go on.
        restoreTables: {
          let ofExtensions = try await tables.finaliseAgain(ends: ends, options: options, logger)
          let changed = try await CopyPhase.again(left: options.source, logger) {
            try await copy.syncLargeObjects(observer: $0)
          }
          try await store.noteOpening()
          return "\(ofExtensions)\(changed)"
        },
        poolers: options.switchPlan.pausesPoolers
          ? Cutover.Poolers(
            pause: { try await switchover.pause(until: $0) }, busy: { try await switchover.busyServers() },
            resume: { try await switchover.resume() })
          : nil,
        leftBehind: tables.excluded,
        record: { try await record.keep($0, stored) },
        switchOver: { fenceLSN, events in
          await switchover.run(
            fenceLSN: fenceLSN, appliedLSN: await Self.appliedLSN(store, logger),
            Switchover.Events(onStep: events.onStep, onClientsResumed: events.onClientsResumed))
        }),
      logger: logger,
      onStep: { report in board.update { $0.cutover = report } })
  }

  /// The end of what the target has; for the steps' information, so nothing fails for want of it.
  static func appliedLSN(_ store: StateStore, _ logger: Logger) async -> String? {
    do {
      return try await store.progress()?.appliedLSN.description
    } catch {
      logger.warning("the applied LSN could not be read", metadata: ["why": "\(error)"])
      return nil
    }
  }
}
