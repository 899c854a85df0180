/// Limits reading tables to a number of bytes a second, all workers together. It pauses before the next bytes
/// are requested, so that the server rests.
actor RateLimit {
  private let bytesPerSecond: Double
  private var free = ContinuousClock.now

  /// - Parameter bytesPerSecond: nil: no limit.
  init?(_ bytesPerSecond: Int64?) {
    guard let bytesPerSecond else { return nil }
    self.bytesPerSecond = Double(max(1, bytesPerSecond))
  }

  /// Waits until more bytes may follow those received.
  func spend(_ bytes: Int) async throws {
    free = max(free, .now) + .seconds(Double(bytes) / bytesPerSecond)
    try await Task.sleep(until: free, clock: .continuous)
  }
}
