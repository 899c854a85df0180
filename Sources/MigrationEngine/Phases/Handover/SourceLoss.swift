import Foundation
import LibPQ
import Logging
import LogicalReplication

/// Finishes a cutover whose source can no longer be reached. The source was sealed, the target has everything
/// and knows both: what remains is to open the target and to move the application there.
struct SourceLoss: Sendable {
  /// What that needs to know about the source, stored on the target before the fence.
  struct Needs: Sendable, Codable {
    var identityColumns: [IdentityColumns.Column]
    var source: Switchover.End

    /// Where it was.
    var place: Knock.Place { Knock.Place(host: source.host, address: source.address, port: source.port) }
  }

  let options: MigrationOptions
  let logger: Logger
  let onProgress: @Sendable (Status) -> Void

  /// - Returns: the report when it was such a cutover, which is now complete; otherwise nil.
  /// - Throws: `ConnectionLoss` when another run may help.
  func openTarget(after loss: PostgresError) async throws -> Status.Cutover? {
    let target = try await Session.open(options.target, end: "target", purpose: "engine")
    return try await closing(target) {
      guard let (_, _, needs) = try await left(StateStore(target)) else {
        if let cutover = try await atItsSeal(StateStore(target)) {
          throw ConnectionLoss(error: unknown(loss, cutover), wasConnected: false)
        }
        return nil
      }
      let heard = try await Silence.listen(options.source, end: "source", known: needs.place)
      if case .silent = heard.verdict { return try await finishOrTryAgain(target, heard.words) }
      var answer = loss
      do {
        await (try await Session.open(options.source, end: "source", purpose: "check")).close()
      } catch let hang as PostgresError where hang.code == .timedOut {
        // It accepts connections, and does not answer on them.
        return try await finishOrTryAgain(target, hang.message)
      } catch let error as PostgresError {
        answer = error
      }
      throw ConnectionLoss(error: waiting(for: heard.words, answer), wasConnected: false, isAfterSeal: true)
    }
  }

  /// The operator says that the source is lost for good.
  /// - Throws: `MigrationError` with kind `.usage` unless the target has everything, and the source is
  ///   silent.
  func runForced() async throws -> Status.Cutover {
    // Before the state is read: a source that answers is reported, whatever the target holds.
    let first = try await Silence.listen(options.source, end: "source")
    if case .answers = first.verdict { throw isThere(first) }
    let target = try await Session.open(options.target, end: "target", purpose: "engine")
    return try await closing(target) {
      guard let (_, cutover, needs) = try await left(StateStore(target)) else {
        throw refusal(
          "the target holds no cutover that had come to its seal, so it may not have everything",
          "Look at replicate status; this migration can continue only with the source.")
      }
      try verify(first.knocks, name: needs)
      let isSealed = cutover.report?.seal == .stands
      // A source known to be sealed takes no writes even if it returns in a moment.
      let heard = try await Silence.listen(
        options.source, end: "source", known: needs.place, for: isSealed ? .zero : Self.patience)
      guard case .silent = heard.verdict else { throw isThere(heard) }
      let words = heard.words
      logger.warning("nobody answers for the source", metadata: ["seen": "\(words)"])
      guard let report = try await finishOrTryAgain(target, words) else {
        throw refusal("the cutover has ended meanwhile", "Look at replicate status.")
      }
      return report
    }
  }

  /// How long everything that may have taken writes must be silent: a restarting server is not lost.
  private static let patience = Duration.seconds(5)

  private func finishOrTryAgain(_ target: Connection, _ seen: String) async throws -> Status.Cutover? {
    do {
      return try await finish(target, seen)
    } catch  where !Task.isCancelled && (error as? MigrationError).map({ $0.kind == .failed }) ?? true {
      throw ConnectionLoss(error: error, wasConnected: true, isAfterSeal: true)
    }
  }

  private func finish(_ target: Connection, _ seen: String) async throws -> Status.Cutover? {
    let control = try await Session.open(options.target, end: "target", purpose: "control")
    return try await closing(control) {
      guard try await StateStore(control).tryLock() else {
        throw MigrationError(
          .anotherEngine, doing: "finishing the cutover without the source",
          reason: "another engine holds this migration", remedy: "Follow it with replicate status --watch.")
      }
      guard let (migration, cutover, needs) = try await left(StateStore(target)) else { return nil }
      try await EngineRun.endLeftovers(on: target)
      return try await conduct(migration, cutover, needs, seen, target, StateStore(control))
    }
  }

  // MARK: Whether it is lost

  private func isThere(_ heard: Silence.Sounding) -> MigrationError {
    guard case .unknown = heard.verdict else {
      return refusal(
        "the source answers, and may be taking writes: \(heard.words)",
        "Run replicate start without --without-source: it asks the source whether it is sealed, and says "
          + "why it is not admitted. If what answers is no server, or must not come back: stop it, or cut it "
          + "off, then give this command again.")
    }
    return refusal(
      "it cannot be known whether the source is lost: \(heard.words)",
      "Make sure that this machine could reach it. Where its name has gone with the server, give its address "
        + "as well: host=NAME hostaddr=ADDRESS.")
  }

  /// The silence of another host proves nothing.
  private func verify(_ knocks: [Knock], name needs: Needs) throws {
    let source = needs.source
    let isNamed = knocks.contains { knock in
      let names = [knock.place.host, knock.place.address].compactMap { $0 }
      return knock.place.port == source.port
        && names.contains { $0 == source.host || $0 == source.address }
    }
    guard !isNamed else { return }
    let given = knocks.map(\.place.description).joined(separator: ", ")
    throw refusal(
      "--source names \(given), and the cutover was begun with \(needs.place)",
      "Give the source that it was begun with: host=\(source.host) port=\(source.port).")
  }

  private func refusal(_ reason: String, _ remedy: String) -> MigrationError {
    MigrationError(
      .usage, doing: "finishing the cutover without the source", reason: reason, remedy: remedy)
  }

  /// A cutover that was about to seal when its engine ended.
  private func atItsSeal(_ store: StateStore) async throws -> StoredCutover? {
    guard try await store.load()?.phase == .cutover, let latest = try await store.latestCutover(),
      latest.state == .running, latest.report?.seal == .announced
    else { return nil }
    return latest
  }

  /// Opening the target while the source takes writes would be worse than waiting.
  private func unknown(_ loss: PostgresError, _ cutover: StoredCutover) -> MigrationError {
    MigrationError(
      .failed, doing: loss.action,
      reason: "\(loss.message); the target has everything, but does not know whether the source is sealed. "
        + cutover.ifItLives,
      remedy: loss.isAnswered || !loss.isConnectionLoss
        ? "The source answers: see that it admits the engine, then run replicate start."
        : "Bring the source back. If it is lost for good, run replicate start --without-source.")
  }

  /// The target would be opened without the source if it were silent.
  private func waiting(for answer: String, _ loss: PostgresError) -> MigrationError {
    MigrationError(
      .failed, doing: loss.action,
      reason: "\(loss.message); the source was sealed and the target has everything, but the source is not "
        + "lost, and must be asked whether its seal still stands: \(answer)",
      remedy:
        "See that it admits the engine. If it must not come back, stop it or cut it off: without it the "
        + "engine finishes the cutover.")
  }

  private func left(_ store: StateStore) async throws -> (StoredMigration, StoredCutover, Needs)? {
    guard let migration = try await store.load(), migration.phase == .cutover, !migration.isAbortRequested,
      let cutover = try await store.latestCutover(), cutover.state == .running,
      let seal = cutover.report?.seal,
      seal == .stands || seal == .announced && options.isSourceLost,
      let needs = try await store.needs(of: cutover.id, as: Needs.self)
    else { return nil }
    return (migration, cutover, needs)
  }

  private func conduct(
    _ migration: StoredMigration, _ cutover: StoredCutover, _ needs: Needs, _ seen: String,
    _ target: Connection, _ control: StateStore
  ) async throws -> Status.Cutover {
    let store = StateStore(target)
    logger.warning("the source cannot be reached; finishing the cutover after its seal without it")
    try await store.note(
      cutover.report?.seal == .stands
        ? "the source could not be reached after its seal: the cutover is finished without it (\(seen))"
        : "--without-source: the cutover is finished without the source, which may not have been sealed "
          + "(\(seen))"
    )
    try await store.store(failure: nil)
    var status = Status(phase: migration.phase)
    status.engine = .thisProcess
    status.target.encryption = migration.encryption
    status.slot.name = migration.slot
    status.cutover = cutover.report
    let board = StatusBoard(status, unstored: PendingCutoverResult())
    board.endNeedOfSource()
    let ticker = Heartbeat(
      source: options.source, direction: .forward, receiver: nil, control: control, board: board,
      logger: logger,
      onProgress: onProgress)
    let report = try await withThrowingTaskGroup(of: Status.Cutover?.self) { group in
      group.addTask { try await finish(migration, cutover, needs, seen, target, board) }
      group.addTask {
        try await ticker.beat()
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
    _ migration: StoredMigration, _ cutover: StoredCutover, _ needs: Needs, _ seen: String,
    _ target: Connection, _ board: StatusBoard
  ) async throws -> Status.Cutover {
    let store = StateStore(target)
    let record = CutoverRecord(board: board, store: store)
    let log = SwitchLog(store: store, cutover: cutover.id)
    try await SwitchSteps.warnOfPausedPoolers(log, options, logger)
    let switchover = SwitchSteps.switchover(
      options, source: needs.source, target: try await SwitchSteps.end(target),
      isSourceLost: true, log, logger)
    var earlier = cutover.report
    if earlier?.seal != .stands {
      earlier?.seal = .stands
      let warnings = earlier?.warnings ?? []
      earlier?.warnings =
        warnings + [
          "the source was lost at its seal: what it may have taken since is lost with it (--without-source; "
            + "\(seen)). \(cutover.ifItLives)"
        ]
    }
    let report = try await Cutover(
      ends: Leg.Addresses(from: options.source, to: options.target),
      handover: SourceLossHandover(
        stored: cutover, switchover: switchover, board: board, store: store, logger: logger),
      logger: logger, onStep: { report in board.update { $0.cutover = report } }
    ).resume(from: .sealed, request: cutover.request, earlier: earlier, asksSource: false)
    let isReversible = try await store.reverseReplication()?.openedXID != nil
    try await record.end(
      report, cutover, .complete, PhaseRecord(migration.phase, store, board),
      isReversible ? .targetOpenedReversibly : .targetOpened)
    try await SourceCleanup.sayLeft(slot: migration.slot, store, logger)
    try await Settlement(direction: .forward, source: nil, target: target, logger: logger).makeAll()
    return report
  }
}

extension StoredCutover {
  /// The danger of a source that may not have been sealed.
  fileprivate var ifItLives: String {
    let what = "If it lives and was not sealed, it takes writes since its fence expired"
    guard let stoppedAt = report?.stoppedAt else { return "\(what)." }
    let past =
      Date().timeIntervalSince1970 - stoppedAt - request.limitSeconds - CutoverRun.margin / .seconds(1)
    return past > 0
      ? "\(what), \(Int(past)) s ago at the latest."
      : "If it lives and is not sealed, its fence expires in \(Int(-past) + 1) s, and it takes writes."
  }
}
