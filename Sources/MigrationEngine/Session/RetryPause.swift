/// How long to wait before something is tried again: twice as long each time, up to a quarter of a minute.
struct RetryPause: Sendable, Equatable {
  private let first: Duration
  private var following: Duration

  private static let longest = Duration.seconds(15)

  init(first: Duration) {
    self.first = first
    following = first
  }

  /// The pause before the next try.
  mutating func next() -> Duration {
    defer { following = min(following * 2, Self.longest) }
    return following
  }

  /// Something has come of the last try.
  mutating func reset() { following = first }
}
