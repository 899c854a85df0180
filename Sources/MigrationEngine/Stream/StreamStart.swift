import LogicalReplication

/// Where a run of the stream begins: worked out once, from what the slot and the state say, and what the run
/// does is judged by it and by nothing else.
///
/// The server sends the transactions whose commit record begins at or beyond the position that it is asked
/// for, or the slot's own where that is later. What is on the target is no proof that the server still has
/// it: it may have been set back in time together with its slot, and then its positions come again with
/// another history. Only two things are a proof. The slot itself, when it was confirmed up to what is
/// applied: it is a part of the server's history. Else the anchor, the last transaction that is applied:
/// asked from its commit record on, the server must send it first.
struct StreamStart: Sendable, Equatable {
  /// What START_REPLICATION asks for: nothing comes that committed before.
  let position: LSN
  /// What committed before is on the target, and is skipped.
  let appliedLSN: LSN
  /// What the source may be told at first: nothing that is not proven.
  let confirmedLSN: LSN
  /// The transaction that ends at `appliedLSN`; nil before the first.
  let anchor: StreamAnchor?
  /// Whether the anchor must come first.
  let expectsAnchor: Bool

  /// A stream that has no past.
  static let origin = StreamStart(StoredProgress(appliedLSN: .zero, confirmedLSN: .zero), slot: .zero)

  /// - Parameter slot: its `confirmed_flush_lsn`, which nobody else moves any more.
  init(_ progress: StoredProgress, slot: LSN) {
    appliedLSN = progress.appliedLSN
    anchor = progress.anchor
    expectsAnchor = slot < progress.appliedLSN && progress.anchor != nil
    confirmedLSN = expectsAnchor ? slot : max(slot, progress.appliedLSN)
    // Not where the target has stored that it may be confirmed: between the slot and there another history
    // may have other transactions. What comes again is filtered again.
    position = max(slot, expectsAnchor ? progress.anchor?.commitLSN ?? .zero : progress.appliedLSN)
  }
}
