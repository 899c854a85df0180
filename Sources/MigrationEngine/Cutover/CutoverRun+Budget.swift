import LibPQ

extension CutoverRun {
  /// The expected write pause, by its parts.
  private struct Forecast {
    var catchingUp: Double
    var finalising: Double
    var comparing = 0.0

    var seconds: Double { catchingUp + finalising + comparing }
  }

  /// Copies before the fence what can be copied then, and predicts how long writes will stop, in seconds.
  /// - Throws: `MigrationError` when that is longer than it may be.
  func predictedPause() async throws -> Double {
    let lag = try await knownLag()
    var forecast = Forecast(catchingUp: lag.seconds, finalising: try await handover.finalisingSeconds())
    let left = min(
      request.maxPauseSeconds - forecast.seconds, request.unaskedSeconds ?? .infinity)
    forecast.comparing = try await handover.comparison?.predictedSeconds(within: left) ?? 0
    guard forecast.seconds > request.maxPauseSeconds else { return forecast.seconds }
    throw MigrationError(
      .failed, doing: "predicting the write pause",
      reason: "it would take about \(Self.seconds(forecast.seconds)), and --max-pause is "
        + "\(Self.seconds(request.maxPauseSeconds)): \(Self.seconds(forecast.catchingUp)) until the "
        + "\(ends.direction.to) has caught up, which is \(lag.bytes) bytes behind, "
        + "\(Self.seconds(forecast.finalising)) to copy what the stream does not carry, "
        + "\(Self.seconds(forecast.comparing)) to compare both ends "
        + "(--verify \(request.verification.rawValue))",
      remedy: remedy(forecast))
  }

  /// A stream that has just begun has not measured its lag.
  private func knownLag() async throws -> (bytes: Int64, seconds: Double) {
    let patience = ContinuousClock.now + .seconds(request.timeoutSeconds)
    while true {
      let lag = await handover.lag()
      if let seconds = lag.predictedPauseSeconds { return (lag.bytes, seconds) }
      guard ContinuousClock.now < patience else {
        throw MigrationError(
          .failed, doing: "predicting the write pause",
          reason: "it is not known yet how long the \(ends.direction.to) takes to catch up, which is "
            + "\(lag.bytes) bytes behind",
          remedy: "Wait until replicate status says ready.")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// For the first part that is too long by itself.
  private func remedy(_ forecast: Forecast) -> String {
    if forecast.catchingUp > request.maxPauseSeconds {
      return "Wait until the stream has caught up, or allow a longer pause."
    }
    if forecast.catchingUp + forecast.finalising > request.maxPauseSeconds {
      return "Allow a longer pause, or have fewer unlogged tables and large objects."
    }
    return request.verification == .changed
      ? "Run replicate verify and then cut over at once, allow a longer pause, or give --verify none."
      : "Run replicate verify and give --verify changed, allow a longer pause, or give --verify none."
  }
}
