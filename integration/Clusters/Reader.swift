import Synchronization

/// Reads all the while, and remembers every failure and the longest wait for an answer.
package final class Reader: Sendable {
  /// What the readings met.
  package struct Report: Sendable {
    /// That were answered.
    package var reads = 0
    /// From a question to its answer, lost connections included.
    package var longestWait: Duration = .zero
    /// In the order of their coming, one a failed reading.
    package var failures: [String] = []
  }

  private let query: String
  private let result = Mutex(Report())
  private let task = Mutex<Task<Void, Never>?>(nil)

  /// - Parameter query: without effect, however often it is run.
  package init(query: String) {
    self.query = query
  }

  /// As it is now; final only after `stop`.
  package var report: Report { result.withLock { $0 } }

  /// Starts to read, on one connection, a hundred times a second at most.
  package func start(on server: ConnectionString) {
    task.withLock { task in
      task?.cancel()
      task = Task { await read(from: server) }
    }
  }

  /// Waits for the reading under way to be given up.
  package func stop() async {
    let task = task.withLock { $0 }
    task?.cancel()
    await task?.value
  }

  private func read(from server: ConnectionString) async {
    var session: SQLSession?
    while !Task.isCancelled {
      let asked = ContinuousClock.now
      do {
        let open: SQLSession
        if let session { open = session } else { open = try await SQLSession(server) }
        session = open
        try await open.execute(query)
        result.withLock { $0.reads += 1 }
      } catch {
        if case SQLFailure.connectionLost = error { session = nil }
        result.withLock { $0.failures.append("\(error)") }
      }
      let wait = ContinuousClock.now - asked
      result.withLock { $0.longestWait = max($0.longestWait, wait) }
      // The workload's rate.
      try? await Task.sleep(for: .milliseconds(10))
    }
    await session?.close()
  }
}
