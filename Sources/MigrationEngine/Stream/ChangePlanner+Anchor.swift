import LogicalReplication

// Whether the source is the one that was followed, and by which transactions that is known later.
//
// An anchor must be a transaction that the server surely sends when it is asked to begin at its commit
// record. What it sends hangs on nothing but the WAL and the catalogs as the transaction saw them, with what
// was in the publication then. So a transaction is sent again of which a change was applied, whatever became
// of the table and the publication since; and one with a transactional message, as the fence's marker and the
// heartbeats are. A prepared one has the commit record of its COMMIT PREPARED, as it was not asked for
// before. Not an empty one, which servers from 15 on do not send; nor one whose changes all went with
// subtransactions that were rolled back, which a server sends only as long as it does not know that.
extension ChangePlanner {
  /// A transaction has committed on the source: its message tells it before anything of it is committed here.
  /// - Throws: `OtherHistory` when it stands where another one was applied.
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
  /// The first behind all tables' snapshots is, though it may change nothing: a source that lacks what was
  /// copied is then told from the one that it was copied from, and open transactions can be streamed.
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
