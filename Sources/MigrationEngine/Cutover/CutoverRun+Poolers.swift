import LibPQ

extension CutoverRun {
  /// If requested, transactions that keep the poolers from pausing for half of the available time are
  /// terminated, even those that have written nothing.
  func pausePoolers() async throws -> String {
    guard let poolers = handover.poolers else { return "" }
    let began = pauseBegan ?? .now
    let end = min(deadline, began + .seconds(request.maxPauseSeconds))
    guard request.terminatesBlockers else { return try await poolers.pause(until: end) }
    return try await withThrowingTaskGroup(of: String?.self) { group in
      group.addTask { try await poolers.pause(until: end) }
      group.addTask {
        do { try await Task.sleep(until: began + (end - began) / 2) } catch { return nil }
        // The pause succeeds by this, and must not keep it from saying whom it ended.
        try await Task { try await self.endTransactions(of: try await poolers.busyServers()) }.value
        return nil
      }
      var said = ""
      for try await paused in group {
        guard let paused else { continue }
        said = paused
        group.cancelAll()
      }
      return said
    }
  }

  private func endTransactions(of pids: [Int32]) async throws {
    guard !pids.isEmpty else { return }
    let writers = Writers(try source)
    note(try await writers.terminate(try await writers.inTransactions(of: pids)))
  }
}
