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
    var hindrance: Hindrance?
    let unstored = UnstoredEnd()
    while true {
      let attempt = MigrationAttempt(
        options: options, logger: logger, unstored: unstored, hindrance: hindrance, onProgress: onProgress,
        onFindings: onFindings)
      hindrance = nil
      let began = ContinuousClock.now
      do {
        if let outcome = try await attempt.run() { return outcome }
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

/// An attempt that ended because a server could not be reached; what it had done is stored, so it can be made
/// again.
struct ConnectionLoss: Error {
  let error: any Error
  /// Both ends had been reached, so the options are right.
  let wasConnected: Bool
  /// Writes are refused everywhere until an attempt succeeds: there is no end to trying.
  var isBehindSeal = false

  var isTimeout: Bool { (error as? PostgresError)?.code == .timedOut }

  /// A server answers, and is in a state that passes by itself or by its operator's doing.
  var mayPass: Bool {
    (error as? PostgresError)?.mayPass ?? (error as? MigrationError)?.mayPass ?? false
  }

  /// - Returns: nil when an error would be the same in the next attempt.
  static func passing(_ error: any Error) -> ConnectionLoss? {
    let loss = error as? ConnectionLoss ?? ConnectionLoss(error: error, wasConnected: true)
    return loss.mayPass ? loss : nil
  }

  fileprivate var words: String {
    if isBehindSeal { return "behind the seal nothing is undone; trying again" }
    return mayPass
      ? "a server is in a state that may pass; trying again" : "a connection was lost; trying again"
  }
}

/// How long to go on trying when a server is away: restarts and failovers take minutes.
private struct Retry {
  private static let limit = Duration.seconds(3600)
  private var failingSince: ContinuousClock.Instant?
  private var pause = Duration.milliseconds(250)
  private(set) var hasSucceeded = false

  /// What an attempt has lasted that has come somewhere, whatever ended it.
  private static let good = Duration.seconds(60)

  /// The pause before the next attempt; nil when it is time to give up.
  mutating func pause(after loss: ConnectionLoss, lasting duration: Duration) -> Duration? {
    if loss.wasConnected {
      hasSucceeded = true
      // What times out again and again does so on good connections as well: that must have an end.
      if !loss.isTimeout, !loss.isBehindSeal, !loss.mayPass || duration > Self.good {
        failingSince = nil
        pause = .milliseconds(250)
      }
    }
    let since = failingSince ?? .now
    failingSince = since
    // Who watches the status sees what is waited for, and can tell the engine to stop.
    guard loss.isBehindSeal || loss.mayPass || ContinuousClock.now - since < Self.limit else { return nil }
    pause = min(pause * 2, .seconds(15))
    return pause
  }
}
