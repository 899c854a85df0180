import LibPQ
import Synchronization

/// Finds the differing rows of a table whose sums differ: first the buckets, then the rows in them, then the
/// keys of those to be named.
struct Narrowing: Sendable {
  let scan: TableScan
  /// How many rows of a table are named.
  let namedRows: Int

  /// How many rows of both ends are compared one by one by their hashes.
  private static let maxRows: Int64 = 50_000

  /// Records in `result` what differs.
  func narrow(_ table: ComparedTable, _ sums: TableScan.Sums, _ result: inout VerificationReport.Table)
    async throws
  {
    let pieces = max(scan.plan([table], scan.source).count, scan.plan([table], scan.target).count)
    let count = BucketSums.count(rows: max(sums.source.rows, sums.target.rows), pieces: pieces)
    var chosen: [Int64]?
    if count > 1 {
      let (source, target) = try await buckets(of: table, count)
      let differing = BucketSums.differing(source, target, maxRows: Self.maxRows)
      result.hasMore = differing.hasMore
      chosen = differing.chosen
    }
    let (source, target) = try await rows(of: table, count, only: chosen)
    try await note(RowComparison(source: source, target: target, limit: namedRows), of: table, in: &result)
  }

  /// Puts the differences into `result`, with the keys of those to be named.
  func note(
    _ comparison: RowComparison, of table: ComparedTable, in result: inout VerificationReport.Table
  ) async throws {
    result.missing = comparison.missing
    result.extra = comparison.extra
    result.different = comparison.different
    let onTarget = comparison.named.filter { $0.kind == .extra }.map(\.place)
    let onSource = comparison.named.filter { $0.kind != .extra }.map(\.place)
    async let here = keys(of: table, scan.source, at: onSource)
    async let there = keys(of: table, scan.target, at: onTarget)
    let (source, target) = try await (here, there)
    result.rows = comparison.named.map { difference in
      VerificationReport.Row(
        kind: difference.kind, key: (difference.kind == .extra ? target : source)[difference.place] ?? [],
        ctid: difference.place)
    }
  }

  private func buckets(of table: ComparedTable, _ count: Int64) async throws -> (BucketSums, BucketSums) {
    let sums = Mutex((source: BucketSums(), target: BucketSums()))
    try await scan.each(of: [table]) { table, end, piece in
      table.buckets(end, piece, buckets: count)
    } _: { _, end, rows in
      var part = BucketSums()
      for row in rows {
        part.add(
          bucket: try row.integer("bucket", as: Int64.self), rows: try row.integer("rows", as: Int64.self),
          digest: UInt64(sum: try row.optional("digest")))
      }
      sums.withLock { end == .source ? $0.source.add(part) : $0.target.add(part) }
    }
    return sums.withLock { ($0.source, $0.target) }
  }

  private func rows(of table: ComparedTable, _ count: Int64, only chosen: [Int64]?) async throws -> (
    [RowMark], [RowMark]
  ) {
    let marks = Mutex((source: [RowMark](), target: [RowMark]()))
    try await scan.each(of: [table]) { table, end, piece in
      table.rows(end, piece, buckets: count, only: chosen)
    } _: { _, end, rows in
      let part = try rows.map { try RowMark($0) }
      marks.withLock { marks in
        switch end {
        case .source: marks.source += part
        case .target: marks.target += part
        }
      }
    }
    return marks.withLock { ($0.source, $0.target) }
  }

  private func keys(of table: ComparedTable, _ end: VerifiedEnd, at places: [String]) async throws
    -> [String: [VerificationReport.Row.KeyColumn]]
  {
    guard !places.isEmpty, !table.key.isEmpty else { return [:] }
    let rows = try await end.first.query(
      table.keys(end.end, at: places), doing: "reading the keys of rows of \(table.name) that differ",
      within: .seconds(600))
    var keys: [String: [VerificationReport.Row.KeyColumn]] = [:]
    for row in rows {
      keys[try row.text("place")] = try table.key.enumerated().map { index, name in
        VerificationReport.Row.KeyColumn(column: name, value: try row.optional("k\(index)"))
      }
    }
    return keys
  }
}

extension RowMark {
  init(_ row: Rows.Row) throws {
    self.init(
      identity: try row.integer("identity", as: Int64.self),
      digest: try row.integer("digest", as: Int64.self),
      count: try row.integer("count", as: Int64.self), place: try row.text("place"))
  }
}

extension BucketSums {
  mutating func add(_ other: BucketSums) {
    for (bucket, sum) in other.sums { add(bucket: bucket, rows: sum.rows, digest: sum.digest) }
  }
}
