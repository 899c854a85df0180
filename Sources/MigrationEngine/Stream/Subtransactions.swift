/// The subtransactions of a streamed transaction, each with a savepoint on the target, so that one can be
/// rolled back. Pure.
///
/// Subtransactions end in the reverse order of their beginning, so everything after the savepoint of one that
/// is rolled back is rolled back with it.
struct Subtransactions {
  /// A transaction with more of them is not streamed: every savepoint slows down the target.
  static let limit = 64

  private var open: [(xid: UInt32, changesBefore: Int64)] = []

  var count: Int { open.count }

  /// A change of this subtransaction comes next.
  /// - Parameter changes: the count of the whole transaction so far.
  /// - Returns: the savepoint that must be set before it; nil when there is one already.
  mutating func enter(_ xid: UInt32, changes: Int64) -> String? {
    guard !open.contains(where: { $0.xid == xid }) else { return nil }
    open.append((xid, changes))
    return Self.savepoint(xid)
  }

  /// - Returns: the savepoint to roll back to, and how many changes of the whole transaction remain then; nil
  ///   when there was no change.
  mutating func abort(_ xid: UInt32) -> (savepoint: String, changes: Int64)? {
    guard let index = open.firstIndex(where: { $0.xid == xid }) else { return nil }
    defer { open.removeSubrange(index...) }
    return (Self.savepoint(xid), open[index].changesBefore)
  }

  private static func savepoint(_ xid: UInt32) -> String { "replicate_subtransaction_\(xid)" }
}
