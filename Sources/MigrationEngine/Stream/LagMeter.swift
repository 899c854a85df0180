/// Measures how long a commit on the source takes to reach the target, by messages in the WAL. Pure: instants
/// come from the caller, all from one machine's clock.
struct LagMeter: Sendable {
  private var sent: [(beat: UInt64, at: ContinuousClock.Instant)] = []
  private var next: UInt64
  private var measured: Duration?

  /// How many beats are kept; older ones are dropped when the stream is far behind.
  private static let limit = 7200

  /// - Parameter first: the number of the first beat; beats of earlier engines must not be mistaken for ours.
  init(first: UInt64) { next = first }

  /// A new beat is about to be written on the source.
  mutating func beat(at now: ContinuousClock.Instant) -> UInt64 {
    defer { next &+= 1 }
    if sent.count >= Self.limit { sent.removeFirst(Self.limit / 2) }
    sent.append((next, now))
    return next
  }

  /// The target has what was committed before this beat.
  mutating func applied(_ beat: UInt64, at now: ContinuousClock.Instant) {
    guard let index = sent.firstIndex(where: { $0.beat == beat }) else { return }
    measured = now - sent[index].at
    sent.removeSubrange(...index)
  }

  /// How far the target is behind; nil before the first beat arrived and before one is late.
  func lag(at now: ContinuousClock.Instant) -> Duration? {
    guard let oldest = sent.first else { return measured }
    let waiting = now - oldest.at
    guard let measured else { return waiting }
    return max(measured, waiting)
  }
}
