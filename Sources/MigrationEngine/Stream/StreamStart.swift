import LogicalReplication

/// Where a run of the stream begins: computed once, from the slot and the state, and the only basis for the
/// run's decisions.
///
/// The server sends the transactions whose commit record begins at or after the requested position, or the
/// slot's own where that is later. That the target has a transaction does not prove that the server still has
/// it: it may have been restored to an earlier time together with its slot, and then its positions recur with
/// another history. Only two things are proof. The slot itself, when it was confirmed up to what is applied:
/// it is part of the server's history. Otherwise the anchor, the last applied transaction: asked from its
/// commit record on, the server must send it first.
struct StreamStart: Sendable, Equatable {
  /// What START_REPLICATION asks for: nothing that committed before is sent.
  let position: LSN
  /// What committed before is on the target, and is skipped.
  let appliedLSN: LSN
  /// What may be confirmed to the source at first: nothing that is not proven.
  let confirmedLSN: LSN
  /// The transaction that ends at `appliedLSN`; nil before the first.
  let anchor: StreamAnchor?
  /// Whether the anchor must come first.
  let expectsAnchor: Bool

  /// A stream without a past.
  static let origin = StreamStart(StoredProgress(appliedLSN: .zero, confirmedLSN: .zero), slot: .zero)

  /// - Parameter slot: its `confirmed_flush_lsn`, which nobody else moves now.
  init(_ progress: StoredProgress, slot: LSN) {
    appliedLSN = progress.appliedLSN
    anchor = progress.anchor
    expectsAnchor = slot < progress.appliedLSN && progress.anchor != nil
    confirmedLSN = expectsAnchor ? slot : max(slot, progress.appliedLSN)
    // Not the position that the target has stored as confirmable: between the slot and there another history
    // may have other transactions. What is sent again is filtered again.
    position = max(slot, expectsAnchor ? progress.anchor?.commitLSN ?? .zero : progress.appliedLSN)
  }
}
