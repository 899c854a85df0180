package import LogicalReplication

/// Watches how the target gains on the source, and says what a cutover would cost. Pure: samples in, a
/// reading out.
package struct CatchUpMonitor: Sendable {
  package struct Sample: Sendable {
    package var at: ContinuousClock.Instant
    package var sourceLSN: LSN
    /// Up to here the target has everything.
    package var targetLSN: LSN
    /// How long a commit of the source takes to be on the target.
    package var lag: Duration?

    package init(at: ContinuousClock.Instant, sourceLSN: LSN, targetLSN: LSN, lag: Duration?) {
      self.at = at
      self.sourceLSN = sourceLSN
      self.targetLSN = targetLSN
      self.lag = lag
    }
  }

  package struct Reading: Sendable, Equatable {
    package var lagBytes: Int64 = 0
    package var lagSeconds: Double = 0
    package var applyBytesPerSecond: Double = 0
    package var sourceBytesPerSecond: Double = 0
    /// Nil when the target does not gain on the source.
    package var catchUpSeconds: Double?
    package var predictedPauseSeconds: Double?
  }

  private var samples: [Sample] = []

  /// Rates are those of the last seconds.
  private static let window = Duration.seconds(10)
  /// What a cutover costs besides the lag: round trips, sequences, the seal.
  private static let fixedCostSeconds = 0.1

  package init() {}

  package mutating func add(_ sample: Sample) {
    samples.append(sample)
    while let first = samples.first, samples.count > 2, sample.at - first.at > Self.window {
      samples.removeFirst()
    }
  }

  package var reading: Reading {
    guard let last = samples.last, let first = samples.first else { return Reading() }
    var reading = Reading()
    reading.lagBytes = max(0, last.sourceLSN.distance(from: last.targetLSN))
    reading.lagSeconds = last.lag.map { $0 / .seconds(1) } ?? 0
    let seconds = (last.at - first.at) / .seconds(1)
    guard seconds > 0 else { return reading }
    reading.applyBytesPerSecond = Double(max(0, last.targetLSN.distance(from: first.targetLSN))) / seconds
    reading.sourceBytesPerSecond = Double(max(0, last.sourceLSN.distance(from: first.sourceLSN))) / seconds
    let gain = reading.applyBytesPerSecond - reading.sourceBytesPerSecond
    if reading.lagSeconds < 1 {
      reading.catchUpSeconds = 0
    } else if gain > 0 {
      reading.catchUpSeconds = Double(reading.lagBytes) / gain
    }
    reading.predictedPauseSeconds = predictedPause(reading)
    return reading
  }

  /// Once writes have stopped, what is left is applied at the rate of the last seconds; a measured lag tells
  /// it better, since that is the time a marker would take now.
  private func predictedPause(_ reading: Reading) -> Double? {
    guard samples.last?.lag != nil else { return nil }
    return reading.lagSeconds + Self.fixedCostSeconds
  }

  /// What is judged by: older samples say nothing of now.
  private var recent: ArraySlice<Sample> {
    guard let last = samples.last else { return [] }
    return samples[(samples.firstIndex { last.at - $0.at <= .seconds(3.5) } ?? samples.endIndex)...]
  }

  private func areWithin(_ maxPause: Double, _ samples: some Collection<Sample>) -> Bool {
    samples.allSatisfy { sample in
      sample.lag.map { $0 / .seconds(1) + Self.fixedCostSeconds <= maxPause } ?? false
    }
  }

  /// Whether a cutover would have stayed within `maxPause` seconds all the time during the last three
  /// seconds: for one that begins by itself.
  package func isSteady(within maxPause: Double) -> Bool {
    let recent = recent
    guard let last = recent.last, let first = recent.first, last.at - first.at >= .seconds(2.5) else {
      return false
    }
    return areWithin(maxPause, recent)
  }

  /// Whether a cutover would stay within `maxPause` seconds, by what was measured in the last three seconds:
  /// for one that somebody asks for.
  package func isReady(within maxPause: Double) -> Bool {
    // A stream that has just begun has not been measured yet, which is no reason to wait longer.
    let measured = recent.drop { $0.lag == nil }
    return measured.count >= 2 && areWithin(maxPause, measured)
  }
}
