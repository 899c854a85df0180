import Synchronization

/// Counts of a running copy; workers add, the status reads.
final class CopyProgress: Sendable {
  struct Counts: Sendable, Equatable {
    var tables = 0
    var bytes: Int64 = 0
    var rows: Int64 = 0
  }

  private let counts = Mutex(Counts())

  var current: Counts { counts.withLock { $0 } }

  func add(bytes: Int) { counts.withLock { $0.bytes += Int64(bytes) } }

  /// Rows are committed on the target, and with them this many whole tables.
  func finish(tables: Int, rows: Int64) {
    counts.withLock {
      $0.tables += tables
      $0.rows += rows
    }
  }
}
