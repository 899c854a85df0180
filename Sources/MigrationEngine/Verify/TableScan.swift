import LibPQ
import Synchronization

/// Reads tables on both ends at once, piece by piece.
struct TableScan: Sendable {
  let source: VerifiedEnd
  let target: VerifiedEnd
  let rateLimit: RateLimit?
  let maxBytesPerSecond: Int64?
  let meter: VerificationMeter

  /// What one end has of one table.
  struct Sum: Sendable, Equatable {
    var rows: Int64 = 0
    /// Modulo 2^64.
    var digest: UInt64 = 0

    /// Wrapping: a server's answer must not trap.
    mutating func add(_ part: Sum) {
      rows &+= part.rows
      digest &+= part.digest
    }
  }

  struct Sums: Sendable {
    var source = Sum()
    var target = Sum()
    var seconds: Double = 0

    var areEqual: Bool { source == target }
  }

  func plan(_ tables: [ComparedTable], _ end: VerifiedEnd) -> [ScanPiece] {
    ScanPlan(
      tables.enumerated().map { ($0, $1.shape(end.end)) }, jobs: end.sessions.count,
      isCut: end.versionNumber >= ServerFeature.tidRangeScan.since,
      maxBytesPerSecond: maxBytesPerSecond.map { $0 / 2 }
    ).pieces
  }

  /// Runs a statement for each piece of each table, on both ends at once.
  /// - Parameter take: called with the result of a piece, from several tasks.
  func each(
    of tables: [ComparedTable], isCounted: Bool = false,
    _ sql: @escaping @Sendable (ComparedTable, ComparedTable.End, ScanPiece) -> String,
    _ take: @escaping @Sendable (ScanPiece, ComparedTable.End, Rows) throws -> Void
  ) async throws {
    @Sendable func scan(_ end: VerifiedEnd) async throws {
      try await end.perform(plan(tables, end)) { piece, session in
        let table = tables[piece.table]
        let rows = try await session.query(
          sql(table, end.end, piece), doing: "comparing table \(table.name)")
        try take(piece, end.end, rows)
        if isCounted { meter.add(bytes: piece.bytes, rows: 0) }
        guard let rateLimit else { return }
        try await end.unlock(session)
        try await rateLimit.spend(Int(clamping: piece.bytes))
      }
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for end in [source, target] { group.addTask { try await scan(end) } }
      while try await group.next() != nil {}
    }
  }

  /// Row counts of the tables, and their digests unless only counts are wanted.
  /// - Parameter isCounted: whether it counts as progress.
  func sums(of tables: [ComparedTable], onlyCounts: Bool, isCounted: Bool = true) async throws -> [Sums] {
    let ledger = SumLedger(
      tables.count, pieces: plan(tables, source) + plan(tables, target), isCounted ? meter : nil)
    try await each(of: tables, isCounted: isCounted) { table, end, piece in
      ledger.begin(piece)
      return onlyCounts ? table.count(end, piece) : table.sum(end, piece)
    } _: { piece, end, rows in
      guard let row = rows.first else { return }
      let part = Sum(
        rows: try row.integer("rows", as: Int64.self), digest: UInt64(sum: try row.optional("digest")))
      ledger.finish(piece, end, part)
    }
    return ledger.sums
  }
}

/// Adds up the results of the pieces.
private final class SumLedger: Sendable {
  private struct Entry {
    var sums = TableScan.Sums()
    var piecesLeft = 0
    var beganAt: ContinuousClock.Instant?
  }

  private let entries: Mutex<[Entry]>
  private let meter: VerificationMeter?

  init(_ tables: Int, pieces: [ScanPiece], _ meter: VerificationMeter?) {
    var entries = [Entry](repeating: Entry(), count: tables)
    for piece in pieces { entries[piece.table].piecesLeft += 1 }
    self.entries = Mutex(entries)
    self.meter = meter
  }

  var sums: [TableScan.Sums] { entries.withLock { $0.map(\.sums) } }

  func begin(_ piece: ScanPiece) {
    entries.withLock { entries in
      if entries[piece.table].beganAt == nil { entries[piece.table].beganAt = .now }
    }
  }

  func finish(_ piece: ScanPiece, _ end: ComparedTable.End, _ part: TableScan.Sum) {
    let isLast = entries.withLock { entries in
      switch end {
      case .source: entries[piece.table].sums.source.add(part)
      case .target: entries[piece.table].sums.target.add(part)
      }
      if let beganAt = entries[piece.table].beganAt {
        entries[piece.table].sums.seconds = (ContinuousClock.now - beganAt) / .seconds(1)
      }
      entries[piece.table].piecesLeft -= 1
      return entries[piece.table].piecesLeft == 0
    }
    meter?.add(bytes: 0, rows: part.rows)
    if isLast { meter?.finishTable() }
  }
}
