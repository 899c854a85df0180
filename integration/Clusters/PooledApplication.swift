import Foundation
import Synchronization

/// An application as web servers are: a pool of sessions that stay open for as long as they serve. A
/// statement that fails is an error to its user and no more; a lost session is opened anew, where the address
/// leads then.
package final class PooledApplication: Sendable {
  /// What its users met.
  package struct Report: Sendable {
    /// Writes that were acknowledged.
    package var writes = 0
    /// Writes that failed, by SQLSTATE; an empty one stands for a lost session.
    package var failures: [String: Int] = [:]
    /// When the first and the last of them failed.
    package var failed: (first: ContinuousClock.Instant, last: ContinuousClock.Instant)?
    /// The longest that one write took which succeeded.
    package var longestWrite: Duration = .zero

    package var failedWrites: Int { failures.values.reduce(0, +) }
    /// From the first to the last that failed.
    package var failedFor: Duration { failed.map { $0.last - $0.first } ?? .zero }
  }

  private let sessions: Int
  private let statement: String
  private let address: @Sendable () throws -> ConnectionString
  private let result = Mutex(Report())
  private let running = Mutex<[Task<Void, Never>]>([])
  /// Raised to have every session opened anew.
  private let generation = Mutex(0)

  /// Between two writes of a session.
  private static let pause = Duration.milliseconds(20)

  /// - Parameters:
  ///   - statement: a write.
  ///   - address: looked up for each new session, as a name is.
  package init(sessions: Int, statement: String, address: @escaping @Sendable () throws -> ConnectionString) {
    self.sessions = sessions
    self.statement = statement
    self.address = address
  }

  /// As it is now; final only after `stop`.
  package var report: Report { result.withLock { $0 } }

  /// Begins to write.
  package func start() {
    running.withLock { tasks in for _ in 0..<sessions { tasks.append(Task { await serve() }) } }
  }

  /// Opens all sessions anew, as when its processes are replaced one by one.
  package func restart() { generation.withLock { $0 += 1 } }

  /// Waits for the writes under way.
  package func stop() async {
    let tasks = running.withLock { tasks in
      defer { tasks = [] }
      return tasks
    }
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
  }

  private func serve() async {
    var session: SQLSession?
    var opened = 0
    while !Task.isCancelled {
      let current = generation.withLock { $0 }
      if current != opened {
        await session?.close()
        (session, opened) = (nil, current)
      }
      let began = ContinuousClock.now
      do {
        let open: SQLSession
        if let session { open = session } else { open = try await SQLSession(try address()) }
        session = open
        try await open.execute(statement)
        let took = ContinuousClock.now - began
        result.withLock {
          $0.writes += 1
          $0.longestWrite = max($0.longestWrite, took)
        }
      } catch {
        let state = (error as? SQLFailure)?.sqlState
        if state == nil || state == "57P01" {
          await session?.close()
          session = nil
        }
        let now = ContinuousClock.now
        result.withLock {
          $0.failures[state ?? "", default: 0] += 1
          $0.failed = ($0.failed?.first ?? now, now)
        }
      }
      // The workload's rate.
      try? await Task.sleep(for: Self.pause)
    }
    await session?.close()
  }
}
