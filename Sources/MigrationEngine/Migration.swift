import LibPQ
package import Logging

/// A migration from the first check to the open target, and the reverse replication after it. Phases in
/// order: preflight, schema, copy, index, catch-up, streaming, cutover, reverse; `EngineRun` walks through
/// them, and this starts another when a connection is lost.
package struct Migration: Sendable {
  /// How an engine came to its end without an error.
  package enum Outcome: Sendable {
    /// Asked to stop, at a commit; a new start continues from there.
    case stopped
    /// An end was opened and there is no rollback any more: the cutover to it.
    case complete(Status.Cutover)
  }

  private let options: MigrationOptions
  private let logger: Logger

  /// Connects to nothing yet.
  package init(options: MigrationOptions, logger: Logger) {
    self.options = options
    self.logger = logger
  }

  /// Looks at both ends and changes neither.
  /// - Throws: `PostgresError` when an end cannot be reached.
  package func check() async throws -> PreflightReport {
    let ends = try await Endpoints.open(options, purpose: "check")
    return try await finally(ends.close) {
      let isResuming = try await StateStore(ends.target).load() != nil
      return try await PreflightPhase(options: options, ends: ends, logger: logger).examine(
        isResuming: isResuming
      ).report
    }
  }

  /// Begins the migration, or resumes it from what the target has stored, and continues until the cutover is
  /// complete and no rollback is possible any more, or the task is cancelled.
  /// - Parameters:
  ///   - onProgress: twice a second, from any thread.
  ///   - onFindings: what preflight found, before anything is changed.
  package func start(
    onProgress: @escaping @Sendable (Status) -> Void,
    onFindings: @escaping @Sendable (PreflightReport) -> Void
  ) async throws -> Outcome {
    var retry = Retry()
    var hindrance: Hindrance?
    let unstored = PendingCutoverResult()
    while true {
      let attempt = EngineRun(
        options: options, logger: logger, unstored: unstored, hindrance: hindrance, onProgress: onProgress,
        onFindings: onFindings)
      hindrance = nil
      let began = ContinuousClock.now
      do {
        if let outcome = try await attempt.proceed() { return outcome }
      } catch  where Task.isCancelled {
        logger.debug("stopped", metadata: ["because": "\(error)"])
        return .stopped
      } catch let loss as ConnectionLoss {
        let lasted = ContinuousClock.now - began - (attempt.hindrance?.pause ?? .zero)
        guard loss.wasConnected || retry.hasSucceeded, let pause = retry.pause(after: loss, lasting: lasted)
        else { throw loss.error }
        logger.warning("\(loss.words)", metadata: ["why": "\(loss.error)", "in": "\(pause)"])
        hindrance = Hindrance(loss.error, pause: pause)
      }
    }
  }
}
