import LibPQ
import Logging
import LogicalReplication

/// A rollback: the cutover with the ends exchanged, while the reverse stream runs.
struct RollbackPhase: PhasePart {
  let context: PhaseContext
  typealias Session = (stream: StreamSession, monitor: StreamMonitor)

  /// The source, for sessions that its seal admits.
  let passing: ConnectionString
  let tables: MigratedTables
  let publication: String
  let session: Session
  private let comparedSchemas = ComparedSchemas()

  private var record: CutoverRecord { CutoverRecord(board: board, store: store) }

  private var schemas: SchemaAgreement {
    SchemaAgreement(
      direction: .back, options: options, ends: ends, tables: tables, logger: logger,
      compared: comparedSchemas)
  }

  /// The steps switch to the source: to them it is the target.
  private var switching: SwitchSteps {
    var exchanged = options
    exchanged.source = options.target
    exchanged.target = passing
    exchanged.switchPlan = options.switchPlan.exchanged
    let ends = Endpoints(
      source: self.ends.target, target: self.ends.source, sourceIdentity: self.ends.sourceIdentity)
    return SwitchSteps(direction: .back, options: exchanged, ends: ends, logger: logger)
  }

  /// - Returns: the report; nil when it was aborted or a rehearsal.
  func rollBack(_ requested: StoredCutover) async throws -> Status.Cutover? {
    logger.info("rollback requested", metadata: ["by": "\(requested.request.requestedBy)"])
    var report = Status.Cutover(step: .prepare)
    report.direction = .back
    try await record.publish(report, requested)
    do {
      try await prepare(requested, &report)
    } catch  where !CutoverRecord.endsAttempt(error) {
      report.result = .aborted
      report.reason = "\(error)"
      return try await conclude(report, requested)
    }
    let prelude = report
    return try await conclude(
      try await cutover(for: requested).perform(requested.request, after: prelude), requested)
  }

  /// Handles a rollback that an engine died in: before the seal it is undone, after the seal finished.
  func resume(_ interrupted: StoredCutover) async throws -> Status.Cutover? {
    let fence = try await SourceState(ends.target).fence() ?? .open
    logger.warning("an engine ended in the middle of a rollback", metadata: ["fence": "\(fence.rawValue)"])
    try await switching.warnOfPausedPoolers(SwitchLog(store: store, cutover: interrupted.id))
    let report = try await cutover(for: interrupted).resume(from: fence, request: interrupted.request)
    return try await conclude(report, interrupted)
  }

  /// Reports tables that would be missing on the source.
  /// - Returns: those tables.
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
    // Look again: what was found seconds ago may have been fixed, and would refuse the rollback.
    let others = try await lookForOtherTables()
    guard others.isEmpty else {
      throw MigrationError(
        .failed, doing: action, reason: Self.words(others),
        remedy: "Drop them, or move them to another database; then try again.")
    }
    if let obstacle = session.monitor.reading.waitsFor {
      throw MigrationError(.failed, doing: action, reason: obstacle)
    }
    try await schemas.ensure(for: requested, &report, record)
    // A view that fails keeps the rows it had on the source.
    for failure in try await MaterializedViews.refresh(from: ends.target, to: ends.source, passing) {
      logger.warning("\(failure.words)", metadata: ["remedy": "\(failure.remedy)"])
    }
    try await switching.verify(store, for: requested.request)
    guard !requested.request.isRehearsal else { return }
    for (step, detail) in try await switching.switchover(nil).makeRoom() {
      try await store.note("switch step \(step), before the fence: \(detail)")
    }
  }

  // MARK: The steps

  private func cutover(for stored: StoredCutover) async throws -> Cutover {
    // Read before the fence, where nobody waits for it.
    let catalog = Catalog(
      relations: try await ReverseReplication.relations(
        of: ends.target, also: ends.source, excluded: tables.excluded))
    let leg = ends.back(options, passing: passing)
    let largeObjects = LargeObjectUpdates(leg: leg, options: options, store: store, logger: logger)
    let comparison = CutoverComparison(
      extent: stored.request.verification, direction: .back, options: options, ends: ends,
      monitor: session.monitor, tables: tables,
      relations: try await tables.comparable(.back, source: ends.source, target: ends.target),
      names: try await tables.names(on: ends.target), largeObjects: largeObjects, logger: logger)
    let stages = HandoverStages(
      leg: leg, stored: stored, options: switching.options, board: board, monitor: session.monitor,
      tables: tables, catalog: catalog, schemas: schemas,
      switchover: try await switching.switchover(SwitchLog(store: store, cutover: stored.id)),
      comparison: stored.request.verification == .none ? nil : comparison, largeObjects: largeObjects,
      logger: logger)
    let board = board
    return Cutover(
      ends: Leg.Addresses(direction: .back, from: options.target, to: passing),
      handover: ReverseHandover(stages: stages), logger: logger,
      onStep: { report in board.update { $0.cutover = report } })
  }

  private func conclude(_ report: Status.Cutover, _ rollback: StoredCutover) async throws -> Status.Cutover? {
    var report = report
    report.direction = .back
    switch report.result {
    case .complete:
      try await record.end(report, rollback, .complete, phase, .reverseEnded)
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
