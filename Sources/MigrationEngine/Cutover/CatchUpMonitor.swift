import LogicalReplication

/// Watches how the target gains on the source, and predicts what a cutover would cost. Pure: samples in, a
/// reading out.
struct CatchUpMonitor: Sendable {
  struct Sample: Sendable {
    var at: ContinuousClock.Instant
    var sourceLSN: LSN
    /// Up to here the target has everything.
    var targetLSN: LSN
    /// How long a commit of the source takes to reach the target.
    var lag: Duration?

    fileprivate var lagBytes: Int64 { max(0, sourceLSN.distance(from: targetLSN)) }
  }

  struct Reading: Sendable, Equatable {
    var lagBytes: Int64 = 0
    var lagSeconds: Double = 0
    var applyBytesPerSecond: Double = 0
    var sourceBytesPerSecond: Double = 0
    /// Nil when the target is not gaining on the source.
    var catchUpSeconds: Double?
    var predictedPauseSeconds: Double?
  }

  private var samples: [Sample] = []
  /// The cost of a cutover at each of them, as predicted then.
  private var pauses: [Double?] = []

  /// Rates are those of the last seconds.
  private static let window = Duration.seconds(10)
  /// What a cutover costs besides the lag: round trips, sequences, the seal.
  private static let fixedCostSeconds = 0.1
  /// A target this far behind works on nothing else, so its pace can be measured. A smaller backlog takes no
  /// longer than half a second at any pace ever seen.
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

  /// Once writes have stopped, the rest is applied at the pace of the last seconds. A heartbeat that came
  /// through shows how long a marker would have taken then; one still waiting gives only a lower bound.
  /// - Returns: nil when it is not known.
  private func predictedPause() -> Double? {
    guard let last = samples.last, let lag = last.lag else { return nil }
    guard let draining = drainingSeconds(last.lagBytes) else { return nil }
    return max(lag / .seconds(1), draining) + Self.fixedCostSeconds
  }

  private func drainingSeconds(_ bytes: Int64) -> Double? {
    guard bytes >= Self.backlogBytes else { return Double(bytes) / Self.slowPace }
    // An idle time before the backlog says nothing about the pace.
    let backlog = samples.reversed().prefix { $0.lagBytes >= Self.backlogBytes }
    guard let last = backlog.first, let first = backlog.last, last.at > first.at else { return nil }
    let pace = Double(last.targetLSN.distance(from: first.targetLSN)) / ((last.at - first.at) / .seconds(1))
    return pace > 0 ? Double(bytes) / pace : nil
  }

  /// The samples to judge by: older ones say nothing about now.
  private var recent: ArraySlice<Sample> {
    guard let last = samples.last else { return [] }
    return samples[(samples.firstIndex { last.at - $0.at <= .seconds(3.5) } ?? samples.endIndex)...]
  }

  private func areWithin(_ maxPause: Double, _ indices: Range<Int>) -> Bool {
    pauses[indices].allSatisfy { $0.map { $0 <= maxPause } ?? false }
  }

  /// Whether a cutover would have stayed within `maxPause` seconds throughout the last three seconds: for an
  /// automatic cutover.
  func isSteady(within maxPause: Double) -> Bool {
    let recent = recent
    guard let last = recent.last, let first = recent.first, last.at - first.at >= .seconds(2.5) else {
      return false
    }
    return areWithin(maxPause, recent.indices)
  }

  /// Whether a cutover would stay within `maxPause` seconds, judging by the last three seconds: for a
  /// requested cutover.
  func isReady(within maxPause: Double) -> Bool {
    // A stream that has just begun was not measured at first, which is no reason to wait longer.
    let measured = recent.drop { $0.lag == nil }
    return measured.count >= 2 && areWithin(maxPause, measured.indices)
  }
}
