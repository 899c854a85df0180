extension StateStore {
  /// Waits until an engine that was asked to go has given its lock up, and takes it, so that none begins
  /// anew.
  /// - Parameter command: what is to be given again when the engine does not go.
  func takeLock(thenRun command: String) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !tryLock() {
      guard ContinuousClock.now < deadline else {
        throw MigrationError(
          .anotherEngine, doing: "stopping the engine", reason: "it still holds its lock after 60 s",
          remedy: "Stop the engine's process, then run \(command) again.")
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }
}
