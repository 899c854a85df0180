/// Holds what reads tables to so many bytes a second, all workers together. A pause is spent before the next
/// bytes are asked for, so that it is the server that rests.
actor RateLimit {
  private let bytesPerSecond: Double
  private var free = ContinuousClock.now

  /// - Parameter bytesPerSecond: nil: as fast as it goes.
  init?(_ bytesPerSecond: Int64?) {
    guard let bytesPerSecond else { return nil }
    self.bytesPerSecond = Double(max(1, bytesPerSecond))
  }

  /// Waits until the bytes that came may be followed by others.
  func spend(_ bytes: Int) async throws {
    free = max(free, .now) + .seconds(Double(bytes) / bytesPerSecond)
    try await Task.sleep(until: free, clock: .continuous)
  }
}
