import LibPQ
import LogicalReplication

/// What one received chunk asks of the target, and what can be told once it is done.
struct ChunkPlan: Sendable {
  var batch = StatementBatch()
  /// Which change each call of the batch comes from.
  var changes: [Change] = []
  /// Calls up to the last COMMIT in the chunk; those after it belong to a transaction that is still open.
  var committedCalls = 0
  /// The end of the last transaction in the chunk that has committed, when it must be committed on the
  /// target.
  var commit: CommitPoint?
  /// Nothing before it is missing once the chunk is applied: the end of an empty transaction or a keepalive
  /// that came outside of any.
  var idleLSN = LSN.zero
  /// The end of what the chunk holds.
  var receivedLSN = LSN.zero
  /// Heartbeats that went by, in order.
  var heartbeats: [UInt64] = []
  /// Changes that came after the last fence marker of the stream.
  var changesAfterMarker = 0

  struct CommitPoint: Sendable, Equatable {
    var endLSN: LSN
    /// Transactions and changes since the commit point before.
    var transactions: Int64
    var changes: Int64
    /// The nonce of the newest fence marker in these transactions.
    var marker: String?
  }

  /// Where a call comes from, for errors.
  struct Change: Sendable {
    enum Kind: String, Sendable {
      case insert = "INSERT"
      case update = "UPDATE"
      case delete = "DELETE"
      case truncate = "TRUNCATE"
    }
    var kind: Kind
    var relationID: UInt32
    var xid: UInt32
  }
}
