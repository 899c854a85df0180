import LibPQ
import Logging
import LogicalReplication

/// A cutover, while the stream runs: the checks before it, the cutover itself, and storing how it ended.
struct CutoverPhase: PhasePart {
  let context: PhaseContext
  let publication: Publication
  let tables: MigratedTables
  let monitor: StreamMonitor
  let refusedSchema: RefusedSchema
  private let comparedSchemas = ComparedSchemas()

  private var record: CutoverRecord { CutoverRecord(board: board, store: store) }
  private var switching: SwitchSteps { SwitchSteps(options: options, ends: ends, logger: logger) }
  private var reverse: ReverseReplication {
    ReverseReplication(options: options, ends: ends, excluded: tables.excluded, logger: logger)
  }
  private var schemas: SchemaAgreement {
    SchemaAgreement(
      direction: .forward, options: options, ends: ends, tables: tables, logger: logger,
      compared: comparedSchemas)
  }

  /// - Returns: the report; nil when it was aborted.
  func cutOver(_ requested: StoredCutover) async throws -> Status.Cutover? {
    logger.info("cutover requested", metadata: ["by": "\(requested.request.requestedBy)"])
    var report = Status.Cutover(step: .prepare)
    try await record.publish(report, requested)
    do {
      let reading = monitor.reading
      if let obstacle = reading.obstacle ?? reading.passing {
        throw MigrationError(
          .failed, doing: "comparing the source's tables with the migrated ones", reason: obstacle)
      }
      for end in [ends.source, ends.target] { try await SystemPrivileges.verify(on: end) }
      try await tables.verify(source: ends.source, target: ends.target, publication: publication.name)
      try await refusedSchema.ensure(accepted: requested.request.acceptedDifferences ?? [])
      try await schemas.ensure(for: requested, &report, record)
      try await refreshMaterializedViews()
      try await switching.verify(store, for: requested.request)
      try await reverse.prepare()
    } catch  where !CutoverRecord.endsAttempt(error) {
      report.result = .aborted
      report.reason = "\(error)"
      return try await conclude(report, requested)
    }
    try await phase.advance(.cutoverBegun)
    let prelude = report
    return try await conclude(
      try await cutover(for: requested).perform(requested.request, after: prelude), requested)
  }

  /// A view that keeps its old rows on the target is no staler than the source's; a view left empty there,
  /// where the source has rows, would fail every reader.
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

  /// A cutover that had not reached its fence when a connection was lost: those who follow it must be
  /// informed.
  func dismissInterrupted() async throws {
    // What it had created for reverse replication would retain the target's WAL.
    try await reverse.remove()
    guard let latest = try await store.latestCutover(), latest.state == .running else { return }
    var report = latest.report ?? Status.Cutover(step: .prepare)
    report.step = .aborted
    report.result = .aborted
    report.reason = "the engine lost a connection, or ended, before the fence"
    try await record.end(report, latest, .aborted, phase)
  }

  /// Handles a cutover that an engine died in: before the seal it is undone, after the seal finished.
  func resume() async throws -> Status.Cutover? {
    let fence = try await SourceState(ends.source).fence() ?? .open
    guard let interrupted = try await store.latestCutover() else {
      throw MigrationError(
        .failed, doing: "resuming a cutover", reason: "the target's state has no cutover",
        remedy: "Schema replicate of the target was changed: abort this migration and begin a new one.")
    }
    logger.warning("an engine ended in the middle of a cutover", metadata: ["fence": "\(fence.rawValue)"])
    guard fence == .sealed || interrupted.report?.seal != .stands else {
      throw MigrationError(
        .failed, doing: "resuming a cutover",
        reason: "the source was sealed and no longer is: a failover or a restore may have lost the seal",
        remedy: "What is written to it now is lost. Stop it: without the source the engine finishes the "
          + "cutover.")
    }
    if interrupted.state != .running {
      try await record.publish(interrupted.report ?? Status.Cutover(step: .resume), interrupted)
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
      let isReversible = try await store.reverseReplication()?.openedXID != nil
      try await record.end(
        report, cutover, .complete, phase, isReversible ? .targetOpenedReversibly : .targetOpened)
      return report
    case .rehearsed:
      try await record.end(report, cutover, .rehearsed, phase, undone)
      logger.info("the cutover was rehearsed", metadata: ["pause": "\(report.writePauseSeconds ?? 0) s"])
    case .aborted, nil:
      try await record.end(report, cutover, .aborted, phase, undone)
      logger.warning("the cutover was aborted", metadata: ["because": "\(report.reason ?? "")"])
    }
    try await reverse.remove()
    return nil
  }

  // MARK: The steps

  private func cutover(for stored: StoredCutover) async throws -> Cutover {
    // Read before the fence, where nobody waits for it.
    let catalog = try await tables.migrated(from: ends.source)
    try await store.store(
      needs: SourceLoss.Needs(
        identityColumns: IdentityColumns.always(in: catalog),
        source: try await SwitchSteps.end(ends.source)), of: stored.id)
    let leg = ends.forward(options)
    let largeObjects = LargeObjectUpdates(leg: leg, options: options, store: store, logger: logger)
    let comparison = CutoverComparison(
      extent: stored.request.verification, direction: .forward, options: options, ends: ends,
      monitor: monitor, tables: tables, relations: catalog.relations,
      names: try await tables.names(on: ends.source), largeObjects: largeObjects, logger: logger)
    let stages = HandoverStages(
      leg: leg, stored: stored, options: options, board: board, monitor: monitor, tables: tables,
      catalog: catalog, schemas: schemas,
      switchover: try await switching.switchover(SwitchLog(store: store, cutover: stored.id)),
      comparison: stored.request.verification == .none ? nil : comparison, largeObjects: largeObjects,
      logger: logger)
    let board = board
    return Cutover(
      ends: Leg.Addresses(from: options.source, to: options.target),
      handover: ForwardHandover(stages: stages, store: store), logger: logger,
      onStep: { report in board.update { $0.cutover = report } })
  }
}
