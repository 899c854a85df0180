/// An AWS step that waits polls.
enum AWSWait {
  /// Returns when nothing is missing.
  ///
  /// - Parameter missing: one poll; returns what is still missing, nil when nothing is.
  /// - Throws: `SwitchFailure` with the newest answer at the deadline, even during a poll.
  static func wait(
    until deadline: ContinuousClock.Instant, every pause: Duration,
    _ missing: @escaping @Sendable () async throws -> String?
  ) async throws {
    var newest = "the service has not reported its state"
    while true {
      let late = SwitchFailure(newest)
      guard let answer = try await TimeLimit.cancelling(until: deadline, or: late, missing) else { return }
      newest = answer
      guard .now + pause < deadline else { throw SwitchFailure(newest) }
      try await Task.sleep(for: pause)
    }
  }
}
