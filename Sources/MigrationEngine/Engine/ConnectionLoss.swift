import LibPQ

/// An engine run that ended because a server could not be reached; what it had done is stored, so another run
/// can continue.
struct ConnectionLoss: Error {
  let error: any Error
  /// Both ends had been reached, so the options are right.
  let wasConnected: Bool
  /// Writes are refused everywhere until a run succeeds: retry for ever.
  var isAfterSeal = false

  var isTimeout: Bool { (error as? PostgresError)?.code == .timedOut }

  /// A server answers, but is in a state that ends by itself or by its operator's action.
  var mayPass: Bool {
    (error as? PostgresError)?.mayPass ?? (error as? MigrationError)?.mayPass ?? false
  }

  /// - Returns: nil when the next run would fail in the same way.
  static func passing(_ error: any Error) -> ConnectionLoss? {
    let loss = error as? ConnectionLoss ?? ConnectionLoss(error: error, wasConnected: true)
    return loss.mayPass ? loss : nil
  }

  var words: String {
    if isAfterSeal { return "after the seal nothing is undone; trying again" }
    return mayPass
      ? "a server is in a state that may pass; trying again" : "a connection was lost; trying again"
  }
}

/// How long to retry when a server is away: restarts and failovers take minutes.
struct Retry {
  private static let limit = Duration.seconds(3600)
  private var failingSince: ContinuousClock.Instant?
  private var pause = Duration.milliseconds(250)
  private(set) var hasSucceeded = false

  /// A run that lasted this long made progress, whatever ended it.
  private static let good = Duration.seconds(60)

  /// The pause before the next run; nil when it is time to give up.
  mutating func pause(after loss: ConnectionLoss, lasting duration: Duration) -> Duration? {
    if loss.wasConnected {
      hasSucceeded = true
      // What times out repeatedly does so on good connections as well: retrying must end.
      if !loss.isTimeout, !loss.isAfterSeal, !loss.mayPass || duration > Self.good {
        failingSince = nil
        pause = .milliseconds(250)
      }
    }
    let since = failingSince ?? .now
    failingSince = since
    // The status shows what the engine waits for, and the user can stop the engine.
    guard loss.isAfterSeal || loss.mayPass || ContinuousClock.now - since < Self.limit else { return nil }
    pause = min(pause * 2, .seconds(15))
    return pause
  }
}
