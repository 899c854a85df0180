import LibPQ
import Logging
import LogicalReplication

extension MigrationClient {
  /// Asks the engine to compare both ends and follows the comparison to its end. When the task is cancelled,
  /// or this process dies, the engine stops it at once and keeps nothing of it.
  /// - Parameter onProgress: at every look, about ten times a second.
  /// - Throws: `MigrationError` with kind `.usage` when nothing can be compared now; `.failed` when it could
  ///   not be done. A difference is no error.
  package func verify(
    _ request: VerificationRequest, onProgress: @escaping @Sendable (Status) -> Void
  ) async throws -> VerificationReport {
    let connection = try await Session.open(target, end: "target", purpose: "verify request")
    return try await closing(connection) {
      let store = StateStore(connection)
      try await verify(mayBeAsked: store)
      let id = try await store.request(request)
      do {
        return try await follow(id, store, onProgress)
      } catch {
        // The engine would notice that nobody follows it; this is immediate.
        do {
          try await Task { try await store.cancelVerification(id) }.value
        } catch let second {
          logger.debug("the request could not be taken back", metadata: ["why": "\(second)"])
        }
        throw error
      }
    }
  }

  private static let action = "asking for a comparison of both ends"

  private func verify(mayBeAsked store: StateStore) async throws {
    let migration = try await stored(store)
    guard [.streaming, .cutover, .reverse].contains(migration.phase) else {
      let reason = "the migration is in phase \(migration.phase.rawValue)"
      throw MigrationError(
        .usage, doing: Self.action,
        reason: migration.phase == .complete ? "\(reason): no stream relates the ends any more" : reason,
        remedy: migration.phase == .complete
          ? "They can be compared from streaming until the cutover, and after it while there is a way back."
          : "Wait until replicate status says it is streaming.")
    }
    guard try await store.lockHolder() != nil else {
      throw MigrationError(
        .usage, doing: Self.action, reason: "no engine is running",
        remedy: "Run replicate start, then ask again.")
    }
  }

  private func follow(
    _ id: Int64, _ store: StateStore, _ onProgress: @escaping @Sendable (Status) -> Void
  ) async throws -> VerificationReport {
    var lastSeen = ContinuousClock.now
    while true {
      guard let verification = try await store.verification(id) else {
        throw failure("the request has vanished from the target's state", "Look at replicate status.")
      }
      switch verification.state {
      case .complete:
        if let report = verification.report { return report }
      case .failed:
        throw MigrationError(
          .failed, doing: Self.action, reason: verification.failure ?? "no reason was stored")
      case .requested, .running: break
      }
      var status = try await status(store)
      // The engine's last report may be of the previous one.
      if status.verification?.id != id { status.verification = nil }
      onProgress(status)
      if status.engine.running { lastSeen = .now }
      if ContinuousClock.now - lastSeen > Self.engineLimit {
        throw failure("the engine is gone", "Run replicate start, then ask again.")
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  /// An engine that lost a connection is back sooner.
  private static let engineLimit = Duration.seconds(15)

  private func failure(_ reason: String, _ remedy: String) -> MigrationError {
    MigrationError(.failed, doing: Self.action, reason: reason, remedy: remedy)
  }
}
