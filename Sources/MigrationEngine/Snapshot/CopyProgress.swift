import Synchronization

/// Counts of a copy that is under way; workers add, the status reads.
package final class CopyProgress: Sendable {
  package struct Counts: Sendable, Equatable {
    package var tables = 0
    package var bytes: Int64 = 0
    package var rows: Int64 = 0
  }

  private let counts = Mutex(Counts())

  package init() {}

  package var current: Counts { counts.withLock { $0 } }

  func add(bytes: Int) { counts.withLock { $0.bytes += Int64(bytes) } }

  /// A table is in the target for good.
  func finish(rows: Int) {
    counts.withLock {
      $0.tables += 1
      $0.rows += Int64(rows)
    }
  }

}
