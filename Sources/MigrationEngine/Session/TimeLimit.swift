import Synchronization

/// Work with a time limit.
enum TimeLimit {
  /// Ends `body` at the limit and waits until it has ended.
  static func cancelling<Value: Sendable>(
    until end: ContinuousClock.Instant, or error: any Error,
    _ body: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    try await withThrowingTaskGroup(of: Value.self) { group in
      group.addTask { try await body() }
      group.addTask {
        try await Task.sleep(until: end, clock: .continuous)
        throw error
      }
      defer { group.cancelAll() }
      guard let value = try await group.next() else { throw CancellationError() }
      return value
    }
  }

  /// Returns at the limit, or when the task is cancelled, even while `body`, which is then cancelled, waits
  /// for a silent server.
  static func abandoning<Value: Sendable>(
    until end: ContinuousClock.Instant, or error: any Error,
    _ body: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    let race = Race<Value>()
    let work = Task {
      do { race.end(.success(try await body())) } catch { race.end(.failure(error)) }
    }
    let limit = Task {
      try await Task.sleep(until: end, clock: .continuous)
      race.end(.failure(error))
    }
    defer {
      work.cancel()
      limit.cancel()
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { race.begin($0) }
    } onCancel: {
      race.end(.failure(CancellationError()))
    }
  }

  /// The first to finish determines the outcome.
  private final class Race<Value: Sendable>: Sendable {
    private struct State {
      var waiting: CheckedContinuation<Value, any Error>?
      var outcome: Result<Value, any Error>?
    }

    private let state = Mutex(State())

    func begin(_ continuation: CheckedContinuation<Value, any Error>) {
      let outcome = state.withLock { state in
        if state.outcome == nil { state.waiting = continuation }
        return state.outcome
      }
      if let outcome { continuation.resume(with: outcome) }
    }

    func end(_ outcome: Result<Value, any Error>) {
      let waiting = state.withLock { state -> CheckedContinuation<Value, any Error>? in
        guard state.outcome == nil else { return nil }
        state.outcome = outcome
        defer { state.waiting = nil }
        return state.waiting
      }
      waiting?.resume(with: outcome)
    }
  }
}
