import LibPQ
package import Logging

/// A migration from the first look to the open target, and the way back. Phases in order: preflight, schema,
/// copy, index, catch-up, streaming, cutover, reverse; `MigrationAttempt` walks through them, and this begins
/// it anew when a connection is lost.
package struct Migration: Sendable {
  package enum Outcome: Sendable {
    /// Told to stop, at a commit; a new start goes on from there.
    case stopped
    case complete(Status.Cutover)
  }

  private let options: MigrationOptions
  private let logger: Logger

  package init(options: MigrationOptions, logger: Logger) {
    self.options = options
    self.logger = logger
  }

  /// Looks at both ends and changes neither.
  /// - Throws: `PostgresError` when an end cannot be reached.
  package func check() async throws -> PreflightReport {
    let ends = try await MigrationEnds.open(options, purpose: "check")
    return try await finally(ends.close) {
      let isResuming = try await StateStore(ends.target).load() != nil
      return try await MigrationPreflight(options: options, ends: ends, logger: logger).run(
        isResuming: isResuming
      ).report
    }
  }

  /// Begins the migration or resumes it from what the target has stored, and goes on until the cutover is
  /// complete and there is no way back any more, or the task is cancelled.
  /// - Parameters:
  ///   - onProgress: twice a second, from any thread.
  ///   - onFindings: what preflight found, before anything is changed.
  package func start(
    onProgress: @escaping @Sendable (Status) -> Void,
    onFindings: @escaping @Sendable (PreflightReport) -> Void
  ) async throws -> Outcome {
    var retry = Retry()
    let unstored = UnstoredEnd()
    while true {
      let attempt = MigrationAttempt(
        options: options, logger: logger, unstored: unstored, onProgress: onProgress,
        onFindings: onFindings)
      do {
        if let outcome = try await attempt.run() { return outcome }
      } catch  where Task.isCancelled {
        logger.debug("stopped", metadata: ["because": "\(error)"])
        return .stopped
      } catch let loss as ConnectionLoss {
        guard loss.wasConnected || retry.hasSucceeded, let pause = retry.pause(after: loss) else {
          throw loss.error
        }
        logger.warning(
          loss.isBehindSeal
            ? "behind the seal nothing is undone; trying again" : "a connection was lost; trying again",
          metadata: ["why": "\(loss.error)", "in": "\(pause)"])
        do { try await Task.sleep(for: pause) } catch { return .stopped }
      }
    }
  }
}

/// An attempt that ended because a server could not be reached; what it had done is stored, so it can be made
/// again.
struct ConnectionLoss: Error {
  let error: any Error
  /// Both ends had been reached, so the options are right.
  let wasConnected: Bool
  /// Writes are refused everywhere until an attempt succeeds: there is no end to trying.
  var isBehindSeal = false

  var isTimeout: Bool { (error as? PostgresError)?.code == .timedOut }
}

/// How long to go on trying when a server is away: restarts and failovers take minutes.
private struct Retry {
  private static let limit = Duration.seconds(3600)
  private var failingSince: ContinuousClock.Instant?
  private var pause = Duration.milliseconds(250)
  private(set) var hasSucceeded = false

  /// The pause before the next attempt; nil when it is time to give up.
  mutating func pause(after loss: ConnectionLoss) -> Duration? {
    if loss.wasConnected {
      hasSucceeded = true
      // What times out again and again does so on good connections as well: that must have an end.
      if !loss.isTimeout, !loss.isBehindSeal {
        failingSince = nil
        pause = .milliseconds(250)
      }
    }
    let since = failingSince ?? .now
    failingSince = since
    guard loss.isBehindSeal || ContinuousClock.now - since < Self.limit else { return nil }
    pause = min(pause * 2, .seconds(15))
    return pause
  }
}
