import LibPQ
import LogicalReplication

/// Which transaction of the target changes belong to. Each lane has a session of its own.
enum Lane: Hashable, Sendable {
  /// Transactions that had committed on the source when they were sent: one after the other.
  case main
  /// A transaction that is sent while it is open on the source, by its xid there: beside the others, and each
  /// of its rows is locked on the target as it is on the source.
  case streamed(UInt32)
}

/// Why transactions cannot be applied before they have ended: what was applied of them is undone, and all
/// comes again without them.
struct StreamingRefusal: Error {
  var reason: any Error
  /// From where on they may be streamed again; nil for not before the run ends.
  var until: LSN?
}

/// Messages of one lane, to be applied together.
struct StreamPiece: Sendable {
  var lane: Lane
  var messages: CopyMessages
}
