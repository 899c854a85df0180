import LogicalReplication
import Synchronization

/// Limits how far the stream may apply, so that the target can be read as the source was at one LSN. The
/// limit follows the source at a distance until that LSN is known, and then stays at it until the target has
/// been read.
///
/// A snapshot at an LSN contains the transactions whose commit record begins before it, and no others: the
/// same comparison as for a table's `snapshotLSN`.
final class ApplyLimit: Sendable {
  private struct State {
    var lsn: LSN?
    var isFixed = false
    /// Where the newest transaction that has arrived was committed.
    var receivedLSN = LSN.zero
    /// Where the newest transaction handed on to be applied was committed.
    var passedLSN = LSN.zero
    /// The next transaction commits at or after the limit, and all before it are applied.
    var isReached = false
    var wake: @Sendable () -> Void = {}
  }

  private let state = Mutex(State())

  /// Lets the stream apply what commits before `lsn`, and nothing else, unless the limit is fixed.
  func move(to lsn: LSN) {
    let wake = state.withLock { state in
      guard !state.isFixed, state.lsn != lsn else { return {} as @Sendable () -> Void }
      state.lsn = lsn
      state.isReached = false
      return state.wake
    }
    wake()
  }

  /// Fixes the limit until it is lifted.
  /// - Returns: false when a transaction that commits at or after `lsn` was already handed on; then nothing
  ///   changes.
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

  /// Something that commits at or after the limit is waiting, and everything before it is applied.
  var isReached: Bool { state.withLock { $0.isReached } }

  /// What has arrived until now commits before it.
  var arrivedLSN: LSN { state.withLock { LSN(rawValue: $0.receivedLSN.rawValue + 1) } }

  // MARK: The stream's own side

  /// A transaction has arrived that commits there.
  func receives(_ lsn: LSN) { state.withLock { $0.receivedLSN = max($0.receivedLSN, lsn) } }

  /// Another inbox begins: what the previous one handed on may come again.
  /// - Parameter wake: looks again for something to take.
  func begin(wake: @escaping @Sendable () -> Void) {
    state.withLock { state in
      state.wake = wake
      state.isReached = false
    }
  }

  /// What `take` gives for the current limit. Called only when everything given before is applied.
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
