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

  /// Rows are in the target for good, and with them so many whole tables.
  func finish(tables: Int, rows: Int64) {
    counts.withLock {
      $0.tables += tables
      $0.rows += rows
    }
  }
}
