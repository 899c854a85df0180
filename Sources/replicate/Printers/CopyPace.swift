import MigrationEngine

/// The pace of the copy over the last seconds: an average from the beginning would hide a slowdown.
struct CopyPace: Sendable {
  private static let window: Double = 10
  private var samples: [(seconds: Double, bytes: Int64)] = []

  init() {}

  /// For a single look: only the average from the beginning is known.
  init(average copy: Status.Copy) {
    observe(0, at: 0)
    observe(copy.bytesDone, at: copy.seconds)
  }

  /// - Parameter seconds: a clock that never goes backwards.
  mutating func observe(_ bytes: Int64, at seconds: Double) {
    if let last = samples.last, bytes < last.bytes { samples.removeAll() }
    if let last = samples.last, seconds - last.seconds < 0.2 { return }
    samples.append((seconds, bytes))
    // One sample older than the window is kept, so that there is always something to compare with.
    while samples.count > 2, samples[1].seconds < seconds - Self.window { samples.removeFirst() }
  }

  /// Nil until there are enough samples.
  var bytesPerSecond: Double? {
    guard let first = samples.first, let last = samples.last, last.seconds > first.seconds else { return nil }
    return (Double(last.bytes) - Double(first.bytes)) / (last.seconds - first.seconds)
  }

  /// Seconds until `bytes` more are copied at this pace.
  func seconds(for bytes: Int64) -> Double? {
    guard let pace = bytesPerSecond, pace > 0, bytes > 0 else { return nil }
    return Double(bytes) / pace
  }
}
