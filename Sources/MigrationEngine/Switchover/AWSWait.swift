/// An AWS step that waits asks again and again.
enum AWSWait {
  /// Returns when nothing is missing any more.
  ///
  /// - Parameter missing: one question; its answer says what is missing yet, nil when nothing is.
  /// - Throws: `SwitchFailure` with the newest answer at the deadline, also when a question is under way.
  static func wait(
    until deadline: ContinuousClock.Instant, every pause: Duration,
    _ missing: @escaping @Sendable () async throws -> String?
  ) async throws {
    var newest = "the service has not told how it stands"
    while true {
      let late = SwitchFailure(newest)
      guard let answer = try await TimeLimit.cancelling(until: deadline, or: late, missing) else { return }
      newest = answer
      guard .now + pause < deadline else { throw SwitchFailure(newest) }
      try await Task.sleep(for: pause)
    }
  }
}
