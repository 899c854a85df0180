import LibPQ
import Synchronization

/// Hands messages from the task that receives them to the one that applies them. Neither waits while the
/// other works: what arrives during one apply is the next piece, so a stream that is behind is applied in
/// larger pieces.
final class Inbox: Sendable {
  private let bound: ApplyLimit
  private let pending = Mutex(PendingMessages())
  private let arrivals = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
  private let departures = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

  /// - Parameter bound: what commits at or after it waits.
  init(bound: ApplyLimit = ApplyLimit()) {
    self.bound = bound
    let arrivals = arrivals.continuation
    bound.begin { arrivals.yield() }
  }

  /// Waits while too much is pending. For one task.
  func put(_ received: CopyMessages) async {
    let (isFull, commitLSN) = pending.withLock {
      $0.append(received)
      return ($0.isFull, $0.lastCommitLSN)
    }
    if let commitLSN { bound.receives(commitLSN) }
    arrivals.continuation.yield()
    guard isFull else { return }
    for await _ in departures.stream where !pending.withLock({ $0.isFull }) { return }
  }

  /// The next piece that has arrived; waits for one. For one task, which has applied the piece it took
  /// before.
  /// - Returns: nil when the task is cancelled.
  func take() async -> StreamPiece? {
    while true {
      if let taken = bound.taking({ bound in pending.withLock { $0.take(below: bound) } }) {
        departures.continuation.yield()
        return taken
      }
      var arrival = arrivals.stream.makeAsyncIterator()
      guard await arrival.next() != nil else { return nil }
    }
  }

  /// Bytes that wait.
  var byteCount: Int { pending.withLock { $0.byteCount } }
}
