import LogicalReplication

/// The proof that everything before a fence has been applied, for a cutover and for a rollback.
struct Drain: Sendable {
  let direction: Direction
  let monitor: StreamMonitor
  let board: StatusBoard

  /// Waits for the commit of the transaction that carries the marker.
  func wait(for nonce: String, until deadline: ContinuousClock.Instant) async throws {
    while ContinuousClock.now < deadline {
      switch monitor.marker(nonce) {
      case .committed: return
      case .breached: throw breach
      case .expected, nil: break
      }
      // The users' pause depends on it, so it is checked often; a drain takes milliseconds.
      try await Task.sleep(for: .milliseconds(1))
    }
    throw MigrationError(
      .failed, doing: "draining the stream",
      reason:
        "the \(direction.to) did not reach the fence's marker in time; "
        + "it is \(board.catchUp.reading.lagBytes) bytes behind",
      remedy: "Try again when the lag is smaller, or allow a longer pause (--max-pause, --timeout).")
  }

  func ensureNoBreach() throws { if monitor.isBreached { throw breach } }

  private var breach: MigrationError {
    MigrationError(
      .failed, doing: "draining the stream",
      reason: "a change was committed on the \(direction.from) after the fence's marker: "
        + monitor.passed.words,
      remedy: "Look for a table whose fence trigger was disabled, and for what replicates into the "
        + "\(direction.from); then try again.")
  }

  /// - Returns: what has changed on the end to be opened since the fence's marker; nil when nothing has.
  func hold(until deadline: ContinuousClock.Instant) async throws -> String? {
    monitor.hold()
    while monitor.isApplying {
      guard ContinuousClock.now < deadline else {
        throw MigrationError(
          .failed, doing: "ending the stream",
          reason: "the last changes are still being applied on the \(direction.to)",
          remedy: "See what they wait for there: a lock, or a full disk.")
      }
      try await Task.sleep(for: .milliseconds(1))
    }
    return monitor.passed.isEmpty ? nil : monitor.passed.words
  }
}
