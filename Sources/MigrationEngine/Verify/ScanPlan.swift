/// A part of a table that is read by one statement.
struct ScanPiece: Sendable, Equatable {
  /// Which of the compared tables.
  var table: Int
  /// For WHERE, of a table `t`; nil: the whole table.
  var condition: String?
  var bytes: Int64
}

/// The pieces in which one end's tables are read: sizes in, pieces out.
struct ScanPlan: Sendable {
  /// Those of large tables first.
  let pieces: [ScanPiece]

  /// Large enough that a statement's own cost does not matter, small enough to keep all sessions busy to the
  /// end, and to let a rate limit pause between pieces.
  private static let pieceBytes: Int64 = 64 << 20
  private static let smallestPieceBytes: Int64 = 1 << 20

  /// - Parameters:
  ///   - isCut: the server reads only the blocks in a ctid range: from 14 on.
  ///   - maxBytesPerSecond: reading a piece should take half a second at this rate.
  init(
    _ tables: [(index: Int, shape: TableShape)], jobs: Int, isCut: Bool, maxBytesPerSecond: Int64? = nil
  ) {
    var size = Self.pieceBytes
    let total = tables.reduce(Int64(0)) { $0.addingReportingOverflow($1.shape.bytes).partialValue }
    // If there are few bytes in all, so that every session gets some.
    size = min(size, total / Int64(max(1, jobs) * 2))
    if let maxBytesPerSecond { size = min(size, maxBytesPerSecond / 2) }
    size = max(size, Self.smallestPieceBytes)
    pieces = tables.sorted { ($0.shape.bytes, $1.index) > ($1.shape.bytes, $0.index) }.flatMap {
      Self.cut($0.index, $0.shape, into: isCut ? size : .max)
    }
  }

  private static func cut(_ index: Int, _ shape: TableShape, into size: Int64) -> [ScanPiece] {
    let parts = min(shape.bytes / size + (shape.bytes % size > 0 ? 1 : 0), shape.heapBlocks, 1_000_000)
    guard parts > 1 else { return [ScanPiece(table: index, condition: nil, bytes: shape.bytes)] }
    func block(_ part: Int64) -> Int64 {
      Int64(Double(shape.heapBlocks) * Double(part) / Double(parts))
    }
    return (0..<parts).map { part in
      var conditions: [String] = []
      if part > 0 {
        conditions.append("t.ctid OPERATOR(pg_catalog.>=) '(\(block(part)),0)'::pg_catalog.tid")
      }
      // The last has no end: what was written since the blocks were counted is in the snapshot as well.
      if part + 1 < parts {
        conditions.append("t.ctid OPERATOR(pg_catalog.<) '(\(block(part + 1)),0)'::pg_catalog.tid")
      }
      let rest = part == 0 ? shape.bytes % parts : 0
      return ScanPiece(
        table: index, condition: conditions.joined(separator: " AND "), bytes: shape.bytes / parts + rest)
    }
  }
}
