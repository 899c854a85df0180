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

/// How long to go on trying when a server is away: restarts and failovers take minutes. Pure: instants come
/// from the caller.
struct Retry {
  private static let limit = Duration.seconds(3600)
  private var failingSince: ContinuousClock.Instant?
  private var pause = RetryPause(first: .milliseconds(500))
  private var wasConnected = false

  /// A run that lasted this long made progress, whatever ended it.
  private static let good = Duration.seconds(60)

  /// The pause before the next attempt; nil when it is time to give up, or both ends were never reached, so
  /// that the options may be wrong.
  mutating func pause(
    after loss: ConnectionLoss, lasting duration: Duration, at now: ContinuousClock.Instant
  ) -> Duration? {
    if loss.wasConnected {
      wasConnected = true
      // What times out again and again does so on good connections as well: that must have an end.
      if !loss.isTimeout, !loss.isAfterSeal, !loss.mayPass || duration > Self.good {
        failingSince = nil
        pause.reset()
      }
    }
    guard wasConnected else { return nil }
    let since = failingSince ?? now
    failingSince = since
    // Who watches the status sees what is waited for, and can tell the engine to stop.
    guard loss.isAfterSeal || loss.mayPass || now - since < Self.limit else { return nil }
    return pause.next()
  }
}
