import LogicalReplication

/// Watches how the target gains on the source, and says what a cutover would cost. Pure: samples in, a
/// reading out.
struct CatchUpMonitor: Sendable {
  struct Sample: Sendable {
    var at: ContinuousClock.Instant
    var sourceLSN: LSN
    /// Up to here the target has everything.
    var targetLSN: LSN
    /// How long a commit of the source takes to be on the target.
    var lag: Duration?

    fileprivate var lagBytes: Int64 { max(0, sourceLSN.distance(from: targetLSN)) }
  }

  struct Reading: Sendable, Equatable {
    var lagBytes: Int64 = 0
    var lagSeconds: Double = 0
    var applyBytesPerSecond: Double = 0
    var sourceBytesPerSecond: Double = 0
    /// Nil when the target does not gain on the source.
    var catchUpSeconds: Double?
    var predictedPauseSeconds: Double?
  }

  private var samples: [Sample] = []
  /// What a cutover would have cost at each of them, as it was judged then.
  private var pauses: [Double?] = []

  /// Rates are those of the last seconds.
  private static let window = Duration.seconds(10)
  /// What a cutover costs besides the lag: round trips, sequences, the seal.
  private static let fixedCostSeconds = 0.1
  /// From here on a target that is behind works on nothing else, so that its pace can be measured. What is
  /// less takes no longer than half a second at any pace that was ever seen.
  private static let backlogBytes: Int64 = 8 << 20
  private static let slowPace = Double(16 << 20)

  mutating func add(_ sample: Sample) {
    samples.append(sample)
    while let first = samples.first, samples.count > 2, sample.at - first.at > Self.window {
      samples.removeFirst()
      pauses.removeFirst()
    }
    pauses.append(predictedPause())
  }

  var reading: Reading {
    guard let last = samples.last, let first = samples.first else { return Reading() }
    var reading = Reading()
    reading.lagBytes = last.lagBytes
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
    reading.predictedPauseSeconds = pauses.last ?? nil
    return reading
  }

  /// Once writes have stopped, what is left is applied at the pace of the last seconds. A heartbeat that came
  /// through says what a marker would have taken then; one that waits only what it takes at least.
  /// - Returns: nil when nobody can tell.
  private func predictedPause() -> Double? {
    guard let last = samples.last, let lag = last.lag else { return nil }
    guard let draining = drainingSeconds(last.lagBytes) else { return nil }
    return max(lag / .seconds(1), draining) + Self.fixedCostSeconds
  }

  private func drainingSeconds(_ bytes: Int64) -> Double? {
    guard bytes >= Self.backlogBytes else { return Double(bytes) / Self.slowPace }
    // An idle time before the backlog tells nothing of the pace.
    let backlog = samples.reversed().prefix { $0.lagBytes >= Self.backlogBytes }
    guard let last = backlog.first, let first = backlog.last, last.at > first.at else { return nil }
    let pace = Double(last.targetLSN.distance(from: first.targetLSN)) / ((last.at - first.at) / .seconds(1))
    return pace > 0 ? Double(bytes) / pace : nil
  }

  /// What is judged by: older samples say nothing of now.
  private var recent: ArraySlice<Sample> {
    guard let last = samples.last else { return [] }
    return samples[(samples.firstIndex { last.at - $0.at <= .seconds(3.5) } ?? samples.endIndex)...]
  }

  private func areWithin(_ maxPause: Double, _ indices: Range<Int>) -> Bool {
    pauses[indices].allSatisfy { $0.map { $0 <= maxPause } ?? false }
  }

  /// Whether a cutover would have stayed within `maxPause` seconds all the time during the last three
  /// seconds: for one that begins by itself.
  func isSteady(within maxPause: Double) -> Bool {
    let recent = recent
    guard let last = recent.last, let first = recent.first, last.at - first.at >= .seconds(2.5) else {
      return false
    }
    return areWithin(maxPause, recent.indices)
  }

  /// Whether a cutover would stay within `maxPause` seconds, by what was measured in the last three seconds:
  /// for one that somebody asks for.
  func isReady(within maxPause: Double) -> Bool {
    // A stream that has just begun has not been measured yet, which is no reason to wait longer.
    let measured = recent.drop { $0.lag == nil }
    return measured.count >= 2 && areWithin(maxPause, measured.indices)
  }
}
