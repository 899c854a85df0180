import Logging

/// Runs of the engine, one after the other, until one comes to an end that another would not change.
struct EngineRuns: Sendable {
  let logger: Logger
  var now: @Sendable () -> ContinuousClock.Instant = { .now }

  /// - Parameter run: one run. It is given why the one before it ended and how long to wait first, and comes
  ///   to nil when the migration has turned and another is to follow at once.
  /// - Throws: what another run would not change, or what has not passed in time.
  func untilDone(_ run: (Hindrance?) async throws -> Migration.Outcome?) async throws -> Migration.Outcome {
    var retry = Retry()
    var hindrance: Hindrance?
    while true {
      let before = hindrance
      hindrance = nil
      let began = now()
      do {
        if let outcome = try await run(before) { return outcome }
      } catch  where Task.isCancelled {
        logger.debug("stopped", metadata: ["because": "\(error)"])
        return .stopped
      } catch let loss as ConnectionLoss {
        let ended = now()
        let lasted = ended - began - (before?.pause ?? .zero)
        guard let pause = retry.pause(after: loss, lasting: lasted, at: ended) else { throw loss.error }
        logger.warning("\(loss.words)", metadata: ["why": "\(loss.error)", "in": "\(pause)"])
        hindrance = Hindrance(loss.error, pause: pause)
      }
    }
  }
}
