import LogicalReplication

// Whether the source is the one followed so far, and which transactions will prove that later.
//
// An anchor must be a transaction that the server certainly sends when asked to begin at its commit record.
// What it sends depends only on the WAL and on catalogs and publication as the transaction saw them. So it
// sends again a transaction of which a change was applied, whatever became of the table and the publication
// since, and one with a transactional message, like the fence's marker and the heartbeats. A prepared
// transaction has the commit record of its COMMIT PREPARED, since two-phase decoding was not requested. An
// empty one is no anchor, since servers from 15 on do not send it; nor is one whose changes were all in
// subtransactions that were rolled back, which a server sends only while it does not know that.
extension ChangePlanner {
  /// A transaction has committed on the source; checked before anything of it is committed here.
  /// - Throws: `OtherHistory` when another one was applied in its place.
  mutating func prove(_ transaction: StreamAnchor) throws {
    guard let expected else { return }
    guard transaction == expected else {
      throw OtherHistory(
        """
        it sends transaction \(transaction.xid), committed at \(transaction.commitLSN), in place of \
        transaction \(expected.xid), committed at \(expected.commitLSN), which the \(direction.to) has
        """, direction)
    }
    self.expected = nil
  }

  /// The source has read its WAL up to `lsn`, and sent what it found.
  func prove(upTo lsn: LSN) throws {
    guard let expected, lsn >= appliedLSN else { return }
    throw OtherHistory(
      """
      it has read its WAL up to \(lsn) without transaction \(expected.xid), committed at \
      \(expected.commitLSN), which the \(direction.to) has
      """, direction)
  }

  /// Whether the transaction must be committed on the target.
  ///
  /// The first after all tables' snapshots must, though it may change nothing: it distinguishes a source that
  /// lacks copied rows from the one they were copied from, and open transactions can then be streamed.
  func isApplied(_ transaction: SourceTransaction, _ anchor: StreamAnchor) -> Bool {
    guard !transaction.isPassed else { return false }
    if transaction.changes > 0 || transaction.marker != nil { return true }
    return transaction.hasMessage && anchorLSN < newestSnapshotLSN && anchor.commitLSN >= newestSnapshotLSN
  }
}

extension StreamAnchor {
  init(_ begin: BeginMessage) {
    self.init(commitLSN: begin.finalLSN, xid: begin.xid, commitTime: begin.commitTime)
  }

  init(_ commit: StreamCommitMessage) {
    self.init(commitLSN: commit.commitLSN, xid: commit.xid, commitTime: commit.commitTime)
  }
}
