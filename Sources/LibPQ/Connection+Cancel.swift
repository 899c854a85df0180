import CLibPQ
import Dispatch
import Synchronization

extension Connection {
  /// How long a cancel request and its answer may take together.
  private static let cancelLimit = Duration.seconds(5)

  /// Asks the server to cancel the current statement and waits briefly for its answer, so that the connection
  /// can be used again; if that fails it is closed.
  func cancelOnServer() {
    if case .close = abandonment { return close() }
    let deadline = ContinuousClock.now + Self.cancelLimit
    do {
      guard let request = CancelRequest(try live()), request.send(within: Self.cancelLimit) else {
        return close()
      }
      while let result = try nextResult(action: "cancelling", until: deadline, heedsCancellation: false) {
        // The COPY began before the request arrived: libpq would keep reporting it.
        if result.beginsCopy { return close() }
      }
    } catch {
      close()
    }
  }
}

/// One cancel request (manual, section 34.7 `PQcancel`).
///
/// `PQcancel` blocks for as long as the network lets it, minutes when the server's host is gone, so it has
/// its own thread, which is abandoned at the time limit.
private final class CancelRequest: Sendable {
  // Only the sending thread uses it; the last owner of the request frees it.
  private nonisolated(unsafe) let pointer: OpaquePointer
  private let isAnswered = DispatchSemaphore(value: 0)
  private let isTaken = Mutex(false)

  /// Nil when the connection is gone.
  init?(_ connection: OpaquePointer) {
    guard let pointer = PQgetCancel(connection) else { return nil }
    self.pointer = pointer
  }

  deinit { PQfreeCancel(pointer) }

  /// - Returns: whether the server took the request in time.
  func send(within limit: Duration) -> Bool {
    DispatchQueue.global().async { [self] in
      var message = [CChar](repeating: 0, count: 256)
      let isSent = PQcancel(pointer, &message, Int32(message.count)) == 1
      isTaken.withLock { $0 = isSent }
      isAnswered.signal()
    }
    let milliseconds = Int(limit / .milliseconds(1))
    guard isAnswered.wait(timeout: .now() + .milliseconds(milliseconds)) == .success else { return false }
    return isTaken.withLock { $0 }
  }
}
