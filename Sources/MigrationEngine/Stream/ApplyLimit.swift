import LogicalReplication
import Synchronization

/// Up to where the stream may apply, while the target is to be seen as the source was at one LSN. The bound
/// moves behind the source until that LSN is known, and then stands at it until the target was looked at.
///
/// A snapshot at an LSN has the transactions whose commit record begins before it, and no others: the same
/// comparison as with a table's `snapshotLSN`.
final class ApplyLimit: Sendable {
  private struct State {
    var lsn: LSN?
    var isFixed = false
    /// Where the newest transaction committed that was handed on to be applied.
    var passedLSN = LSN.zero
    /// The next transaction commits at or beyond the bound, and all before it are applied.
    var isReached = false
    var wake: @Sendable () -> Void = {}
  }

  private let state = Mutex(State())

  /// Lets the stream apply what commits before `lsn`, and nothing else, unless the bound is fixed.
  func move(to lsn: LSN) {
    let wake = state.withLock { state in
      guard !state.isFixed, state.lsn != lsn else { return {} as @Sendable () -> Void }
      state.lsn = lsn
      state.isReached = false
      return state.wake
    }
    wake()
  }

  /// Fixes the bound until it is lifted.
  /// - Returns: false when a transaction was handed on that commits at or beyond `lsn`; nothing changes then.
  func fix(at lsn: LSN) -> Bool {
    let wake: (@Sendable () -> Void)? = state.withLock { state in
      guard state.passedLSN < lsn else { return nil }
      state.lsn = lsn
      state.isFixed = true
      state.isReached = false
      return state.wake
    }
    wake?()
    return wake != nil
  }

  func lift() {
    let wake = state.withLock { state in
      state.lsn = nil
      state.isFixed = false
      state.isReached = false
      return state.wake
    }
    wake()
  }

  var isFixed: Bool { state.withLock { $0.isFixed } }

  /// Something waits that commits at or beyond the bound, and everything before it is applied.
  var isReached: Bool { state.withLock { $0.isReached } }

  // MARK: The stream's own side

  /// Another inbox begins: what the one before it handed on may come again.
  /// - Parameter wake: looks again for something to take.
  func begin(wake: @escaping @Sendable () -> Void) {
    state.withLock { state in
      state.wake = wake
      state.isReached = false
    }
  }

  /// What `take` gives for the bound of this moment. Asked for only when all that was given before is
  /// applied.
  func taking(_ take: (_ bound: LSN?) -> PendingMessages.Taken) -> StreamPiece? {
    state.withLock { state in
      let taken = take(state.lsn)
      switch taken {
      case .piece(let piece, let commitLSN):
        if let commitLSN { state.passedLSN = max(state.passedLSN, commitLSN) }
        return piece
      case .held: state.isReached = true
      case .nothing: break
      }
      return nil
    }
  }
}
