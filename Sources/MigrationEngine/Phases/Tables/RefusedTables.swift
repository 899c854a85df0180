import LibPQ
import Synchronization

/// Tables whose rows the target refused, until they are copied after all. What they wait for may arrive
/// through the stream, or be fixed on the source, so they are retried; what is kept here only saves tries.
final class RefusedTables: Sendable {
  private struct Table {
    var name: RelationName
    var words: String
    var tries = 0
    var next: ContinuousClock.Instant
  }

  private let state = Mutex<[UInt32: Table]>([:])

  private static let shortestPause = Duration.seconds(2)
  private static let longestPause = Duration.seconds(60)

  /// - Parameters:
  ///   - oid: the source's.
  ///   - took: how long the try took.
  /// - Returns: whether that is news.
  func note(_ oid: UInt32, _ name: RelationName, _ words: String, took: Duration = .zero) -> Bool {
    state.withLock { state in
      let known = state[oid]
      var table = Table(name: name, words: words, tries: (known?.tries ?? -1) + 1, next: .now)
      // The first retry is immediate: the rest of the schema may be there by then.
      if table.tries > 0 {
        let pause = Self.shortestPause * (1 << min(table.tries, 10))
        table.next += max(min(pause, Self.longestPause), took * 20)
      }
      state[oid] = table
      return known?.words != words
    }
  }

  func forget(_ oid: UInt32) { state.withLock { $0[oid] = nil } }

  /// Whether it is left alone for now.
  func holds(_ oid: UInt32) -> Bool { state.withLock { $0[oid] != nil } }
  func isDue(_ oid: UInt32) -> Bool { state.withLock { $0[oid].map { $0.next <= .now } ?? true } }

  /// For people: the tables among `oids`.
  func obstacles(of oids: Set<UInt32>) -> [String] {
    state.withLock { state in
      state.filter { oids.contains($0.key) }.values.sorted { $0.name < $1.name }.map {
        """
        table \($0.name) is not copied: the target refuses one of its rows: \($0.words). Fix the row on the \
        source, or create on the target what it refers to; the copy is retried by itself.
        """
      }
    }
  }
}
