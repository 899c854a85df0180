import LibPQ
import LogicalReplication

/// Which transaction on the target changes belong to. Each lane has its own session.
enum Lane: Hashable, Sendable {
  /// Transactions that had committed on the source when they were sent: one after another.
  case main
  /// A transaction sent while it is open on the source, by its xid there: it runs beside the others, with its
  /// rows locked on the target as they are on the source.
  case streamed(UInt32)
}

/// Why transactions cannot be applied before they have ended: what was applied of them is undone, and the
/// stream is restarted without streaming them.
struct StreamingRefusal: Error {
  var reason: any Error
  /// From where they may be streamed again; nil for not before the run ends.
  var until: LSN?
}

/// Messages of one lane, to be applied together.
struct StreamPiece: Sendable {
  var lane: Lane
  var messages: CopyMessages
}
