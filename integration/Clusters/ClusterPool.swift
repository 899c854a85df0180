import Foundation

/// Pairs of clusters for suites that run beside each other, each on a pair of its own: most of a suite's time
/// is waiting, so that one alone leaves the machine idle.
///
/// Nobody who waits for a pair holds a thread.
package actor ClusterPool {
  /// The process's own, of `REPLICATE_TEST_LANES` pairs; one where the servers are given.
  package static let shared = ClusterPool(size: lanes)

  private static var lanes: Int {
    guard ClusterPair.canKillServers else { return 1 }
    let asked = ProcessInfo.processInfo.environment["REPLICATE_TEST_LANES"].flatMap { Int($0) }
    return max(1, asked ?? 4)
  }

  private struct Waiter {
    let seconds: Int
    let pair: CheckedContinuation<ClusterPair, any Error>
  }

  private let size: Int
  private var started = 0
  private var free: [ClusterPair] = []
  private var waiters: [Waiter] = []

  init(size: Int) { self.size = size }

  /// Runs `body` with a pair that nobody else has meanwhile, which is `ClusterPair.shared` to it.
  /// - Parameter seconds: what it takes, about. Who takes longest goes first, so that none is left over at
  ///   the end.
  package nonisolated func withPair<Value: Sendable>(
    for seconds: Int, _ body: @Sendable () async throws -> Value
  ) async throws -> Value {
    let pair = try await lease(for: seconds)
    let result: Result<Value, any Error>
    do {
      result = .success(try await ClusterPair.$leased.withValue(pair) { try await body() })
    } catch {
      result = .failure(error)
    }
    await giveBack(pair)
    return try result.get()
  }

  private func lease(for seconds: Int) async throws -> ClusterPair {
    if waiters.isEmpty, let pair = free.popLast() { return pair }
    return try await withCheckedThrowingContinuation { pair in
      waiters.append(Waiter(seconds: seconds, pair: pair))
      startAnother()
    }
  }

  private func giveBack(_ pair: ClusterPair) {
    if let first = takeFirst() { first.pair.resume(returning: pair) } else { free.append(pair) }
  }

  private func startAnother() {
    guard started < size else { return }
    started += 1
    Task {
      do {
        giveBack(try await ClusterPair.create())
      } catch {
        started -= 1
        takeFirst()?.pair.resume(throwing: error)
        if !waiters.isEmpty { startAnother() }
      }
    }
  }

  private func takeFirst() -> Waiter? {
    // By the time that the first pair is there, all who begin with the run are waiting.
    guard let longest = waiters.indices.max(by: { waiters[$0].seconds < waiters[$1].seconds }) else {
      return nil
    }
    return waiters.remove(at: longest)
  }
}
