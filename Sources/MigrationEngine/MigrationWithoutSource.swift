import LibPQ
import Logging
import LogicalReplication

/// The end of a cutover whose source cannot be reached any more. The source was sealed, the target has
/// everything and knows both: what is left is to open the target and to lead the application there.
struct MigrationWithoutSource: Sendable {
  /// What that needs of the source, stored on the target before the fence.
  struct Needs: Sendable, Codable {
    var identityColumns: [IdentityColumns.Column]
    var source: Switchover.End
  }

  let options: MigrationOptions
  let logger: Logger
  let onProgress: @Sendable (Status) -> Void

  /// - Returns: the report when it was such a cutover, which is complete now; otherwise nil.
  /// - Throws: `ConnectionLoss` when another attempt may help.
  func run(after loss: PostgresError) async throws -> Status.Cutover? {
    let target = try await Session.open(options.target, end: "target", purpose: "engine")
    return try await closing(target) {
      guard try await left(StateStore(target)) != nil else {
        if try await mayBeSealed(StateStore(target)) {
          throw ConnectionLoss(error: unknown(loss), wasConnected: false)
        }
        return nil
      }
      do {
        return try await finish(target)
      } catch  where !Task.isCancelled && (error as? MigrationError).map({ $0.kind == .failed }) ?? true {
        throw ConnectionLoss(error: error, wasConnected: true, isBehindSeal: true)
      }
    }
  }

  private func finish(_ target: Connection) async throws -> Status.Cutover? {
    let control = try await Session.open(options.target, end: "target", purpose: "control")
    return try await closing(control) {
      guard try await StateStore(control).tryLock() else {
        throw MigrationError(
          .anotherEngine, doing: "finishing the cutover without the source",
          reason: "another engine holds this migration", remedy: "Follow it with replicate status --watch.")
      }
      guard let (migration, cutover, needs) = try await left(StateStore(target)) else { return nil }
      try await MigrationAttempt.endLeftovers(on: target)
      return try await conduct(migration, cutover, needs, target, StateStore(control))
    }
  }

  /// The operator says that the source is lost for good.
  /// - Throws: `MigrationError` with kind `.usage` unless the target has everything, and the source is
  ///   silent.
  func runForced() async throws -> Status.Cutover {
    let action = "finishing the cutover without the source"
    do {
      await (try await Session.open(options.source, end: "source", purpose: "check")).close()
    } catch let error as PostgresError where error.isConnectionLoss {
      if let report = try await run(after: error) { return report }
      throw MigrationError(
        .usage, doing: action,
        reason: "the target holds no cutover that had come to its seal, so it may not have everything",
        remedy: "Look at replicate status; only with the source can this migration go on.")
    }
    throw MigrationError(
      .usage, doing: action, reason: "the source answers, and may be taking writes",
      remedy: "Run replicate start without --without-source: it asks the source whether it is sealed.")
  }

  private func mayBeSealed(_ store: StateStore) async throws -> Bool {
    guard try await store.load()?.phase == .cutover, let latest = try await store.latestCutover() else {
      return false
    }
    return latest.state == .running && latest.report?.isSealed == false
  }

  /// To open the target while the source takes writes would be worse than to wait.
  private func unknown(_ loss: PostgresError) -> MigrationError {
    MigrationError(
      .failed, doing: loss.action,
      reason: "\(loss.message); the target has everything, but does not know whether the source is sealed",
      remedy: "Bring the source back. If it is lost for good, run replicate start --without-source.")
  }

  private func left(_ store: StateStore) async throws -> (StoredMigration, StoredCutover, Needs)? {
    guard let migration = try await store.load(), migration.phase == .cutover, !migration.isAbortRequested,
      let cutover = try await store.latestCutover(), cutover.state == .running,
      let isSealed = cutover.report?.isSealed, isSealed || options.isSourceLost,
      let needs = try await store.needs(of: cutover.id, as: Needs.self)
    else { return nil }
    return (migration, cutover, needs)
  }

  private func conduct(
    _ migration: StoredMigration, _ cutover: StoredCutover, _ needs: Needs, _ target: Connection,
    _ control: StateStore
  ) async throws -> Status.Cutover {
    let store = StateStore(target)
    logger.warning("the source cannot be reached; the cutover behind its seal is finished without it")
    try await store.note(
      cutover.report?.isSealed == true
        ? "the source could not be reached behind its seal: the cutover is finished without it"
        : "--without-source: the cutover is finished without the source, which may not have been sealed")
    try await store.store(failure: nil)
    var status = Status(phase: migration.phase)
    status.engine = .thisProcess
    status.target.encryption = migration.encryption
    status.slot.name = migration.slot
    status.cutover = cutover.report
    let board = MigrationBoard(status, unstored: UnstoredEnd())
    board.endNeedOfSource()
    let ticker = MigrationTicker(
      source: options.source, direction: .forward, control: control, board: board, logger: logger,
      onProgress: onProgress)
    let report = try await withThrowingTaskGroup(of: Status.Cutover?.self) { group in
      group.addTask { try await finish(migration, cutover, needs, target, board) }
      group.addTask {
        try await ticker.run()
        return nil
      }
      defer { group.cancelAll() }
      guard let report = try await group.next() ?? nil else { throw CancellationError() }
      return report
    }
    board.update { $0.engine.running = false }
    try await control.publish(board.status)
    onProgress(board.status)
    return report
  }

  private func finish(
    _ migration: StoredMigration, _ cutover: StoredCutover, _ needs: Needs, _ target: Connection,
    _ board: MigrationBoard
  ) async throws -> Status.Cutover {
    let store = StateStore(target)
    let record = MigrationCutoverRecord(board: board, store: store)
    let log = SwitchLog(store: store, cutover: cutover.id)
    try await MigrationSwitch.warnOfPausedPoolers(log, options, logger)
    let switchover = MigrationSwitch.switchover(
      options, source: needs.source, target: try await MigrationSwitch.end(target), log, logger)
    var earlier = cutover.report
    if earlier?.isSealed != true {
      earlier?.isSealed = true
      let warnings = earlier?.warnings ?? []
      earlier?.warnings =
        warnings + [
          "the source was lost at its seal: what it may have taken since is lost with it (--without-source)"
        ]
    }
    let report = try await Cutover(
      from: options.source, to: options.target,
      stages: Cutover.Stages(
        lag: { (0, nil) }, expectMarker: { _ in }, drain: { _, _ in }, forgetMarker: {}, ensureNoBreach: {},
        finaliseTables: { "" },
        restoreTables: {
          try await IdentityColumns.restore(needs.identityColumns, on: target)
          try await store.noteOpening()
          return ", large objects as they were behind the fence"
        },
        record: { try await record.keep($0, cutover) },
        switchOver: { fenceLSN, events in
          await switchover.run(
            fenceLSN: fenceLSN, appliedLSN: await MigrationStreaming.appliedLSN(store, logger),
            Switchover.Events(onStep: events.onStep, onClientsResumed: events.onClientsResumed))
        }),
      logger: logger, onStep: { report in board.update { $0.cutover = report } }
    ).resume(from: .sealed, request: cutover.request, earlier: earlier)
    let isOpenWithWayBack = try await store.wayBack()?.openedLSN != nil
    try await record.end(
      report, cutover, .complete, PhaseRecord(migration.phase, store, board),
      isOpenWithWayBack ? .targetOpenedWithWayBack : .targetOpened)
    try await MigrationStreaming.leaveSource(slot: migration.slot, store, logger)
    return report
  }
}
