extension StateStore {
  /// Waits until an engine that was asked to stop has released its lock, and takes it, so that no other
  /// starts.
  /// - Parameter command: the command to repeat when the engine does not stop.
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
