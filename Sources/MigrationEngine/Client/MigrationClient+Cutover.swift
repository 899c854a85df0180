import LibPQ
import Logging

extension MigrationClient {
  /// Requests a cutover from the engine and follows it to its end. An earlier request or a running cutover of
  /// the same kind is followed instead.
  /// - Parameter onProgress: at every look, about ten times a second.
  /// - Throws: `MigrationError` with kind `.usage` when no cutover can begin now, `.cutoverAborted` when it
  ///   was undone.
  package func cutover(
    _ request: CutoverRequest, onProgress: @escaping @Sendable (Status) -> Void
  ) async throws -> Status.Cutover {
    let connection = try await Session.open(target, end: "target", purpose: "cutover request")
    let followed: StoredCutover
    do {
      let store = StateStore(connection)
      switch try await ask(request, store) {
      case .following(let cutover): followed = cutover
      case .done(let report):
        await connection.close()
        return report
      }
    } catch {
      await connection.close()
      throw error
    }
    return try await withTaskCancellationHandler {
      try await follow(followed, connection, onProgress)
    } onCancel: {
      logger.notice("no longer following the cutover; if it has begun, the engine goes on with it")
    }
  }

  // MARK: Asking

  private enum Answer {
    case following(StoredCutover)
    /// The request has already been fulfilled.
    case done(Status.Cutover)
  }

  private func ask(_ request: CutoverRequest, _ store: StateStore) async throws -> Answer {
    let phases: [Phase] = request.direction == .forward ? [.streaming, .cutover] : [.reverse]
    let migration = try await stored(store)
    // A running cutover continues as soon as an engine does.
    if phases.contains(migration.phase), try await store.cutoverUnderWay()?.state != .running,
      try await store.lockHolder() == nil
    {
      throw refusal("no engine is running", "Run replicate start, then ask again.")
    }
    switch try await store.request(request, in: phases) {
    case .new(let cutover): return .following(cutover)
    case .underWay(let cutover): return .following(try attach(request, to: cutover))
    case .refused(let phase):
      if [.complete, .reverse].contains(phase), let done = try await store.completedCutover(),
        done.request.direction == request.direction, let report = done.report
      {
        return .done(report)
      }
      throw refusal(
        "the migration is in phase \(phase.rawValue)",
        request.direction == .forward
          ? "Wait until replicate status says it is streaming."
          : "There is a way back from a complete cutover until replicate finish, unless it was begun with "
            + "--no-reverse.")
    }
  }

  /// Follows an earlier request, if it is the same.
  private func attach(_ request: CutoverRequest, to cutover: StoredCutover) throws -> StoredCutover {
    let current = cutover.request
    guard current.direction == request.direction, current.isRehearsal == request.isRehearsal else {
      throw refusal(
        "\(current.isRehearsal ? "the rehearsal of " : "")a \(current.direction.deed) is under way, "
          + "asked for by \(current.requestedBy)",
        "Wait for its end, then try again; replicate status shows how far it is.")
    }
    logger.notice(
      "following the \(current.direction.deed) that is under way, with the limits that it was asked for with",
      metadata: [
        "by": "\(current.requestedBy)", "max-pause": "\(current.maxPauseSeconds) s",
        "timeout": "\(current.timeoutSeconds) s",
      ])
    return cutover
  }

  private func refusal(_ reason: String, _ remedy: String) -> MigrationError {
    MigrationError(.usage, doing: "asking for a cutover", reason: reason, remedy: remedy)
  }

  // MARK: Following

  /// How long an engine in a cutover may be away: it waits itself while it reconnects.
  private static let patience = Duration.seconds(30)
  /// How much longer than the cutover's limit the target may be away.
  private static let margin = Duration.seconds(60)

  /// - Parameter first: handed over; closed at the end.
  private func follow(
    _ cutover: StoredCutover, _ first: Connection, _ onProgress: @escaping @Sendable (Status) -> Void
  ) async throws -> Status.Cutover {
    var connection: Connection? = first
    var engineSeen = ContinuousClock.now
    var targetLost: ContinuousClock.Instant?
    while true {
      do {
        let session: Connection
        if let connection {
          session = connection
        } else {
          session = try await Session.open(target, end: "target", purpose: "cutover request")
          connection = session
          engineSeen = .now
        }
        if let report = try await look(cutover.id, StateStore(session), &engineSeen, onProgress) {
          await session.close()
          return report
        }
        targetLost = nil
        try await Task.sleep(for: .milliseconds(100))
      } catch let loss as PostgresError where loss.isConnectionLoss {
        await connection?.close()
        connection = nil
        let since = targetLost ?? .now
        if targetLost == nil {
          logger.warning("lost the target; trying again", metadata: ["why": "\(loss)"])
          targetLost = since
        }
        guard .now - since < .seconds(cutover.request.timeoutSeconds) + Self.margin else {
          throw unknown(cutover.request.direction, loss, .now - since)
        }
        try await Task.sleep(for: .milliseconds(250))
      } catch {
        await connection?.close()
        throw error
      }
    }
  }

  /// - Returns: nil while it is running.
  private func look(
    _ id: Int64, _ store: StateStore, _ engineSeen: inout ContinuousClock.Instant,
    _ onProgress: @Sendable (Status) -> Void
  ) async throws -> Status.Cutover? {
    guard let cutover = try await store.cutover(id) else {
      throw refusal("the request has vanished from the target's state", "Look at replicate status.")
    }
    var status = try await status(store)
    // Until the engine reports this one, its report is of an earlier one.
    let isOfAnother =
      cutover.state == .requested || cutover.state == .running && status.cutover?.result != nil
      || (status.cutover?.direction ?? .forward) != cutover.request.direction
    if isOfAnother { status.cutover = nil }
    onProgress(status)
    if status.engine.running { engineSeen = .now }
    switch cutover.state {
    case .complete:
      let ends: [Phase] = cutover.request.direction == .forward ? [.complete, .reverse] : [.complete]
      if let report = cutover.report, ends.contains(status.phase) { return report }
    case .rehearsed:
      if let report = cutover.report { return report }
    case .aborted:
      throw MigrationError(
        .cutoverAborted, doing: cutover.request.direction == .forward ? "cutting over" : "rolling back",
        reason: cutover.report?.reason ?? "no reason was stored",
        remedy:
          "The \(cutover.request.direction.from) takes writes and the stream goes on. Mend the cause, "
          + "then ask again.")
    case .requested, .running: break
    }
    if ContinuousClock.now - engineSeen > Self.patience { throw try await lostEngine(id, store) }
    return nil
  }

  /// A request that no engine took must not take effect when an engine is started later.
  private func lostEngine(_ id: Int64, _ store: StateStore) async throws -> MigrationError {
    if try await store.withdraw(id) {
      return refusal("the engine is gone and had not begun", "Run replicate start, then ask again.")
    }
    return MigrationError(
      .failed, doing: "cutting over", reason: "the engine ended in the middle of the cutover",
      remedy: """
        Run replicate start: before the seal it takes the fence down, after it finishes the cutover. \
        Without it the fence lets writes pass again when it expires.
        """)
  }

  private func unknown(_ direction: Direction, _ loss: PostgresError, _ away: Duration) -> MigrationError {
    MigrationError(
      .failed, doing: "following the \(direction.deed)",
      reason: """
        the target could not be reached for \(away.components.seconds) s, so it is not known how it ended: \
        \(loss)
        """,
      remedy: """
        Bring the target back. An engine that runs goes on by itself: before the seal it takes the fence \
        down, after it finishes the \(direction.deed); replicate status shows. Without an engine the fence \
        lets writes pass again when it expires.
        """)
  }
}
