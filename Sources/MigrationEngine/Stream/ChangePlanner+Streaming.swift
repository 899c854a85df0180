import LibPQ
import LogicalReplication

// Transactions sent before they have ended (manual, section 55.9: Stream Start to Stream Abort).
extension ChangePlanner {
  /// The next block of a streamed transaction.
  mutating func resume(_ start: StreamStartMessage, _ plan: ChunkPlan) throws {
    guard open == nil, plan.lane == .streamed(start.xid) else {
      throw unexpected("a block of a streamed transaction inside another one")
    }
    guard start.isFirstSegment == (streamed[start.xid] == nil) else {
      throw unexpected("a block of a streamed transaction without those before it")
    }
    open = streamed.removeValue(forKey: start.xid) ?? begun(start.xid)
  }

  private func begun(_ xid: UInt32) -> SourceTransaction {
    var transaction = SourceTransaction(xid: xid)
    // A server may stream a transaction that ends just where it was asked to begin.
    transaction.isPassed = xid == expected?.xid
    transaction.touchEpoch = touchEpoch
    return transaction
  }

  mutating func suspend() throws {
    guard let transaction = open, transaction.finalLSN == nil else {
      throw unexpected("the end of a block of no streamed transaction")
    }
    open = nil
    streamed[transaction.xid] = transaction
  }

  /// The next changes belong to this subtransaction of a streamed transaction: a savepoint lets them be
  /// undone alone.
  mutating func enter(
    _ xid: UInt32?, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    guard let xid, let transaction = open, !transaction.isPassed, xid != transaction.xid,
      let savepoint = open?.subtransactions.enter(xid, changes: transaction.changes)
    else { return }
    guard transaction.subtransactions.count < Subtransactions.limit else {
      throw StreamingRefusal(
        reason: MigrationError(
          .failed, doing: "streaming source transaction \(transaction.xid)",
          reason: "it has more than \(Subtransactions.limit) subtransactions"))
    }
    try fold?.writeAll(buffer, &plan)
    // Rolling back to it must restore the settings that all other changes start with.
    plan.take(nil)
    plan.call("SAVEPOINT \(savepoint)", expectedRows: nil)
    plan.keepsSavepoint = true
  }

  mutating func finish(_ commit: StreamCommitMessage, _ plan: inout ChunkPlan) throws {
    guard open == nil, var transaction = streamed.removeValue(forKey: commit.xid) else {
      throw unexpected("COMMIT of a streamed transaction without blocks")
    }
    let anchor = StreamAnchor(commit)
    try prove(anchor)
    transaction.isPassed = commit.commitLSN < appliedLSN
    // Which of its changes are in a table's copy was not known before: it comes again as a whole.
    guard transaction.isPassed || commit.commitLSN >= transaction.snapshotLSN else {
      throw StreamingRefusal(
        reason: MigrationError(
          .failed, doing: "streaming source transaction \(commit.xid)",
          reason: "it committed before the snapshot of a table that it changed"),
        until: transaction.snapshotLSN)
    }
    try advance(to: commit.commitLSN, commit.endLSN)
    conclude(transaction, anchor, upTo: commit.endLSN, &plan)
    touchStreamed(transaction)
    // The source does not describe them again: from now on they are as this transaction left them.
    known.merge(transaction.known) { _, new in new }
  }

  mutating func undo(_ abort: StreamAbortMessage, _ plan: inout ChunkPlan) throws {
    guard open == nil, var transaction = streamed.removeValue(forKey: abort.xid) else {
      throw unexpected("ROLLBACK of a streamed transaction without blocks")
    }
    guard abort.subtransactionXID != abort.xid else {
      if transaction.isBegun { plan.rollback = .transaction }
      return
    }
    if let left = transaction.subtransactions.abort(abort.subtransactionXID) {
      plan.rollback = .to(savepoint: left.savepoint)
      transaction.changes = left.changes
    }
    streamed[abort.xid] = transaction
  }
}
