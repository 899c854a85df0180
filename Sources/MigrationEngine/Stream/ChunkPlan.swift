import LibPQ
import LogicalReplication

/// The statements for one chunk of the stream, and what can be confirmed once they are done.
struct ChunkPlan: Sendable {
  let lane: Lane
  private(set) var batch = StatementBatch()
  /// Which change each call of the batch comes from; nil for none or many.
  private(set) var origins: [Change?] = []
  private(set) var copies: [CopyRows] = []
  /// Whether changes of several rows became one statement, so that the order is no longer the source's.
  var isFolded = false
  /// Whether the plan starts a new transaction on the target; otherwise it starts with a savepoint, so that
  /// it can be undone alone.
  let beginsTransaction: Bool
  /// The end of the last transaction in the chunk, when it must be committed on the target. Then everything
  /// in the chunk belongs to transactions that have ended.
  var commit: CommitPoint?
  /// What to roll back of a streamed transaction: what the source has rolled back, or all of one that has
  /// ended with nothing to keep. The chunk then holds nothing else.
  var rollback: Rollback?
  /// Savepoints of subtransactions are nested in the chunk's own, which must therefore stay.
  var keepsSavepoint = false
  /// Nothing before it is missing once the chunk is applied: the end of a transaction with nothing to apply,
  /// or a keepalive outside any transaction.
  var idleLSN = LSN.zero
  /// The end of what the chunk holds.
  var receivedLSN = LSN.zero
  /// Heartbeats in the chunk, in order.
  var heartbeats: [Heartbeat] = []
  /// Changes after the last fence marker of the stream.
  var changesAfterMarker = 0
  /// The relations of these, and of changes between two markers.
  var changedAfterMarker = RelationIDs()
  var changedBetweenMarkers = RelationIDs()
  /// Replication origins of transactions in it that changed something.
  var replicationOrigins: Set<String> = []

  /// One of ours, and where in the stream it came.
  struct Heartbeat: Sendable {
    var number: UInt64
    var lsn: LSN
  }

  /// A set of relations, fast for many changes of the same one in a row.
  struct RelationIDs: Sendable {
    private(set) var ids: Set<UInt32> = []
    private var last: UInt32?

    mutating func insert(_ id: UInt32) {
      guard id != last else { return }
      ids.insert(id)
      last = id
    }

    mutating func take(_ other: inout RelationIDs) {
      ids.formUnion(other.ids)
      other = RelationIDs()
    }
  }

  struct CommitPoint: Sendable, Equatable {
    var endLSN: LSN
    /// The transaction that ends there.
    var anchor: StreamAnchor
    /// Transactions and changes since the previous commit point.
    var transactions: Int64
    var changes: Int64
    /// The nonce of the newest fence marker in these transactions.
    var marker: String?
  }

  enum Rollback: Sendable, Equatable {
    case transaction
    case to(savepoint: String)
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

  /// Rows inserted by COPY.
  struct CopyRows: Sendable {
    var sql: String
    var bytes: [UInt8]
    var rowCount: Int
    /// How many calls of the batch come before it.
    var callsBefore: Int
  }

  static let savepoint = "replicate_chunk"

  /// The settings of the calls added last; nil for those that the session begins with.
  private var detour: UserSettings.Detour?

  init(lane: Lane, beginsTransaction: Bool) {
    self.lane = lane
    self.beginsTransaction = beginsTransaction
    call(beginsTransaction ? "BEGIN" : "SAVEPOINT \(Self.savepoint)", expectedRows: nil)
  }

  var hasChanges: Bool { batch.calls.count > 1 || !copies.isEmpty }

  /// Closes a call: its parameters are those added since the last.
  mutating func call(_ sql: String, expectedRows: Int?, origin: Change? = nil, isPrepared: Bool = true) {
    batch.call(sql, expectedRows: expectedRows, isPrepared: isPrepared)
    origins.append(origin)
  }

  /// The next calls run under these settings; nil at the end and before a savepoint of the source's.
  mutating func take(_ detour: UserSettings.Detour?) {
    guard detour != self.detour else { return }
    if let before = self.detour { call(before.leave, expectedRows: nil) }
    if let detour { call(detour.enter, expectedRows: nil) }
    self.detour = detour
  }

  /// Writes parameters of the next call.
  mutating func append(_ write: (inout StatementBatch) throws -> Void) rethrows { try write(&batch) }

  mutating func copy(_ sql: String, _ bytes: [UInt8], rowCount: Int) {
    copies.append(CopyRows(sql: sql, bytes: bytes, rowCount: rowCount, callsBefore: batch.calls.count))
  }
}
