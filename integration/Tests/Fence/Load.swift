import Clusters
import Synchronization

/// Sessions that write to several tables in one transaction, in orders that differ from session to session,
/// and go on when they are refused.
final class Load: Sendable {
  private struct State {
    var commits = 0
    var refused = 0
    var longest = Duration.zero
    var failures: [String] = []
  }

  private static let tables = 50
  private let sessions: Int
  private let state = Mutex(State())
  private let tasks = Mutex<[Task<Void, Never>]>([])

  init(sessions: Int) { self.sessions = sessions }

  var refused: Int { state.withLock { $0.refused } }
  /// What the slowest transaction took until now.
  var longest: Duration { state.withLock { $0.longest } }
  /// What neither a commit nor a fence explains.
  var failures: [String] { state.withLock { $0.failures } }

  static func createTables(_ scene: Scene) async throws {
    for table in 1...tables {
      try await scene.source(
        "CREATE TABLE load_\(table) (id int PRIMARY KEY, v int)",
        "INSERT INTO load_\(table) SELECT i, 0 FROM generate_series(1, 100) i")
    }
  }

  func start(on source: ConnectionString) {
    tasks.withLock { tasks in
      for session in 0..<sessions { tasks.append(Task { await self.write(as: session, on: source) }) }
    }
  }

  func stop() async {
    let tasks = tasks.withLock { $0 }
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
  }

  func waitForCommits(more: Int) async throws {
    let before = state.withLock { $0.commits }
    try await waitUntil("\(more) commits more", within: .seconds(30)) {
      state.withLock { $0.commits } >= before + more
    }
  }

  private func write(as number: Int, on source: ConnectionString) async {
    do {
      let session = try await SQLSession(source)
      var n = number
      while !Task.isCancelled {
        n += 1
        await transact(n, as: number, on: session)
      }
      await session.close()
    } catch {
      state.withLock { $0.failures.append("session \(number): \(error)") }
    }
  }

  /// Rows differ from session to session, so that only a fence could make them wait for each other.
  private func transact(_ n: Int, as number: Int, on session: SQLSession) async {
    let first = n % Self.tables + 1
    let second = (n * 7 + 13) % Self.tables + 1
    let upward = [first, second].sorted()
    let order = number.isMultiple(of: 2) ? upward : upward.reversed()
    let began = ContinuousClock.now
    defer { state.withLock { $0.longest = max($0.longest, ContinuousClock.now - began) } }
    do {
      try await session.execute("BEGIN")
      for table in order {
        try await session.execute("UPDATE load_\(table) SET v = v + 1 WHERE id = \(number + 1)")
      }
      try await session.execute("COMMIT")
      state.withLock { $0.commits += 1 }
    } catch {
      let isRefused = (error as? SQLFailure)?.sqlState == "25006"
      state.withLock { state in
        if isRefused { state.refused += 1 } else { state.failures.append("session \(number): \(error)") }
      }
      do { try await session.execute("ROLLBACK") } catch {
        state.withLock { $0.failures.append("session \(number): \(error)") }
      }
    }
  }
}
