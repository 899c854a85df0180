import LibPQ
import Logging
import LogicalReplication

/// A rollback: the cutover with the ends exchanged, while the reverse stream runs.
struct ReverseHandover: Sendable {
  typealias Session = (stream: StreamSession, monitor: StreamMonitor)

  let options: MigrationOptions
  /// The source, for sessions that its sealed guard lets through.
  let passing: ConnectionString
  let logger: Logger
  let ends: Endpoints
  let board: StatusBoard
  let phase: PhaseRecord
  let tables: MigratedTables
  let publication: String
  let session: Session
  private let comparedSchemas = ComparedSchemas()

  init(
    options: MigrationOptions, passing: ConnectionString, logger: Logger, ends: Endpoints,
    board: StatusBoard, phase: PhaseRecord, tables: MigratedTables, publication: String, session: Session
  ) {
    self.options = options
    self.passing = passing
    self.logger = logger
    self.ends = ends
    self.board = board
    self.phase = phase
    self.tables = tables
    self.publication = publication
    self.session = session
  }

  private var store: StateStore { StateStore(ends.target) }
  private var record: CutoverRecord { CutoverRecord(board: board, store: store) }

  /// With the ends exchanged, for what copies from the one to the other.
  private var exchanged: (options: MigrationOptions, ends: Endpoints) {
    var options = options
    options.source = self.options.target
    options.target = passing
    options.switchPlan = self.options.switchPlan.exchanged
    let ends = Endpoints(
      source: self.ends.target, target: self.ends.source, sourceIdentity: self.ends.sourceIdentity)
    return (options, ends)
  }

  private var schemas: SchemaAgreement {
    SchemaAgreement(
      direction: .back, options: options, ends: ends, tables: tables, logger: logger,
      compared: comparedSchemas)
  }

  private var switching: SwitchSteps {
    SwitchSteps(
      direction: .back, options: exchanged.options, ends: exchanged.ends, logger: logger)
  }

  /// - Returns: the report; nil when it was aborted or a rehearsal.
  func run(_ requested: StoredCutover) async throws -> Status.Cutover? {
    logger.info("rollback requested", metadata: ["by": "\(requested.request.requestedBy)"])
    var report = Status.Cutover(step: "prepare")
    report.direction = .back
    try await record.tell(report, requested)
    do {
      try await prepare(requested, &report)
    } catch  where !CutoverRecord.endsAttempt(error) {
      report.result = .aborted
      report.reason = "\(error)"
      return try await conclude(report, requested)
    }
    let prelude = report
    return try await conclude(
      try await cutover(for: requested).run(requested.request, after: prelude), requested)
  }

  /// What an engine that died in a rollback left: before the seal it is undone, after it finished.
  func resume(_ interrupted: StoredCutover) async throws -> Status.Cutover? {
    let fence = try await SourceState(ends.target).fence() ?? .open
    logger.warning("an engine ended in the middle of a rollback", metadata: ["fence": "\(fence.rawValue)"])
    try await switching.warnOfPausedPoolers(SwitchLog(store: store, cutover: interrupted.id))
    let report = try await cutover(for: interrupted).resume(from: fence, request: interrupted.request)
    return try await conclude(report, interrupted)
  }

  /// Tells of tables that would be missing on the source.
  /// - Returns: these.
  @discardableResult
  func lookForOtherTables() async throws -> [RelationName] {
    let others = try await tables.notCarriedBack(target: ends.target, publication: publication)
    let obstacle = others.isEmpty ? nil : Self.words(others)
    if session.monitor.isHeldUp(by: obstacle), let obstacle {
      logger.warning("a rollback would lose rows", metadata: ["why": "\(obstacle)"])
    }
    return others
  }

  private static func words(_ tables: [RelationName]) -> String {
    """
    created after the cutover, their rows do not go back: \(tables.map(\.description).joined(separator: ", "))
    """
  }

  private func prepare(_ requested: StoredCutover, _ report: inout Status.Cutover) async throws {
    let action = "comparing the target's tables with those that go back"
    guard requested.request.direction == .back else {
      throw MigrationError(.failed, doing: "cutting over", reason: "the target is open already")
    }
    for end in [ends.source, ends.target] { try await SystemPrivileges.verify(on: end) }
    // Anew: what was found seconds ago may have been mended, and would refuse the rollback.
    let others = try await lookForOtherTables()
    guard others.isEmpty else {
      throw MigrationError(
        .failed, doing: action, reason: Self.words(others),
        remedy: "Drop them, or move them to another database; then ask again.")
    }
    if let obstacle = session.monitor.reading.waitsFor {
      throw MigrationError(.failed, doing: action, reason: obstacle)
    }
    try await schemas.run(for: requested, &report, record)
    // The source had its rows before, and keeps them.
    for failure in try await MaterializedViews.refresh(from: ends.target, to: ends.source, passing) {
      logger.warning("\(failure.words)", metadata: ["remedy": "\(failure.remedy)"])
    }
    try await switching.verify(store)
    guard !requested.request.isRehearsal else { return }
    for (step, detail) in try await switching.switchover(nil).makeRoom() {
      try await store.note("switch step \(step), before the fence: \(detail)")
    }
  }

  private func syncLargeObjects(observer: Connection? = nil) async throws -> Int {
    // The target has none where they were left behind, and the source is to keep its own.
    guard try await store.carriesLargeObjects(options),
      let horizon = try await store.wayBack()?.largeObjectsHorizon
    else {
      return 0
    }
    var exist = try await LargeObjects.exist(on: observer ?? ends.target)
    if !exist { exist = try await LargeObjects.exist(on: ends.source) }
    guard exist else { return 0 }
    let snapshot = try await ExportedSnapshot.current(on: options.target, .back)
    return try await finally(snapshot.release) {
      let outcome = try await LargeObjects(
        source: options.target, target: passing, workers: options.jobs, rateLimit: nil
      ).copy(under: snapshot, since: horizon)
      try await store.store(wayBackHorizon: outcome.horizon)
      return outcome.changed
    }
  }

  // MARK: The steps

  private func cutover(for stored: StoredCutover) async throws -> Cutover {
    let monitor = session.monitor
    let drain = Drain(direction: .back, monitor: monitor, board: board)
    // Read before the fence: nobody waits for it there.
    let catalog = Catalog(
      relations: try await ReverseReplication.relations(
        of: ends.target, also: ends.source, excluded: tables.excluded))
    let (exchangedOptions, exchangedEnds) = exchanged
    let switchover = try await switching.switchover(SwitchLog(store: store, cutover: stored.id))
    return Cutover(
      .back, from: options.target, to: passing,
      stages: Cutover.Stages(
        lag: { board.catchUp.reading.lag },
        expectMarker: { monitor.expectMarker($0) },
        drain: { try await drain.wait(for: $0, until: $1) },
        forgetMarker: { monitor.forgetMarker() },
        ensureNoBreach: { try drain.ensureNoBreach() }, passing: drain.passing,
        finalisingSeconds: {
          try await tables.finalisingSeconds(catalog, to: ends.source) { try await syncLargeObjects() }
        },
        ensureSchemas: { try await schemas.again(stored.request) },
        finaliseTables: {
          let changed = try await syncLargeObjects()
          return try await tables.finalise(
            catalog, ends: exchangedEnds, options: exchangedOptions, direction: .back)
            + ", \(changed) large objects"
        },
        comparison: CutoverComparison(
          extent: stored.request.verification, direction: .back, options: options, ends: ends,
          monitor: monitor, tables: tables,
          relations: try await tables.comparable(.back, source: ends.source, target: ends.target),
          names: try await tables.names(on: ends.target),
          syncLargeObjects: { _ = try await syncLargeObjects() }, logger: logger
        ).comparison,
        // Not before the seal: until then the stream may have to go on.
        restoreTables: {
          let ofExtensions = try await tables.finaliseAgain(
            ends: exchangedEnds, options: exchangedOptions, direction: .back, logger)
          let changed = try await CopyPhase.again(left: options.target, moving: .back, logger) {
            try await syncLargeObjects(observer: $0)
          }
          return "\(ofExtensions)\(changed)"
        },
        poolers: exchangedOptions.switchPlan.pausesPoolers
          ? Cutover.Poolers(
            pause: { try await switchover.pause(until: $0) }, busy: { try await switchover.busyServers() },
            resume: { try await switchover.resume() })
          : nil,
        leftBehind: tables.excluded,
        switchOver: { fenceLSN, events in
          await switchover.run(
            fenceLSN: fenceLSN, appliedLSN: monitor.reading.feedback.appliedLSN.description,
            Switchover.Events(onStep: events.onStep, onClientsResumed: events.onClientsResumed))
        }),
      logger: logger,
      onStep: { report in board.update { $0.cutover = report } })
  }

  private func conclude(_ report: Status.Cutover, _ rollback: StoredCutover) async throws -> Status.Cutover? {
    var report = report
    report.direction = .back
    switch report.result {
    case .complete:
      try await record.end(report, rollback, .complete, phase, .wayBackEnded)
      return report
    case .rehearsed:
      try await record.end(report, rollback, .rehearsed, phase)
      logger.info("the rollback was rehearsed", metadata: ["pause": "\(report.writePauseSeconds ?? 0) s"])
    case .aborted, nil:
      try await record.end(report, rollback, .aborted, phase)
      logger.warning("the rollback was aborted", metadata: ["because": "\(report.reason ?? "")"])
    }
    return nil
  }
}
