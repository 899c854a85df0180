import LibPQ

/// A table's copy, or a part of it, as the statements of both ends.
struct CopyPiece: Sendable, Equatable {
  var sourceOID: UInt32
  var name: RelationName
  var bytes: Int64
  /// How many pieces the table is copied in.
  var parts = 1
  var copyOut: String
  var copyIn: String
}

/// What one worker copies in one transaction of the target.
struct CopyBatch: Sendable, Equatable {
  var pieces: [CopyPiece]
  /// Empties the tables first; an earlier try may have left rows. Nil where that is done beforehand.
  var clearing: String?
  /// The tables' owner, under whose settings their expressions are evaluated.
  var owner = ""
}

/// How a large table is cut into pieces that several workers copy.
enum TableCut: Sendable {
  /// By the places of its rows.
  case blocks
  /// By ranges of keys, of tables by their OIDs: before PostgreSQL 14 a server reads the whole table for each
  /// condition on `ctid`.
  case keys([UInt32: KeyRanges])

  static func cheapest(for relations: [Relation], on end: Connection) async throws -> TableCut {
    guard try await !end.has(.tidRangeScan) else { return .blocks }
    let large = relations.filter { $0.kind == .table && $0.bytes >= CopyPlan.partBytes }
    return .keys(try await KeyRanges.read(large.map(\.oid), from: end))
  }

  fileprivate func pieces(of relation: Relation) -> Int64 {
    switch self {
    case .blocks: relation.heapBlocks
    case .keys(let ranges): Int64(ranges[relation.oid]?.pieces ?? 1)
    }
  }

  /// The rows of one piece, for WHERE.
  fileprivate func condition(_ number: Int, of parts: Int, _ relation: Relation) -> String {
    switch self {
    case .blocks:
      func block(_ number: Int) -> Int64 { relation.heapBlocks * Int64(number) / Int64(parts) }
      // The last has no end, for what was written since the blocks were counted.
      let end = number + 1 < parts ? " AND ctid < '(\(block(number + 1)),0)'" : ""
      return "ctid >= '(\(block(number)),0)'\(end)"
    case .keys(let ranges): return ranges[relation.oid]?.condition(number, of: parts) ?? "true"
    }
  }
}

/// What is copied and how: relations in, statements out.
struct CopyPlan: Sendable {
  /// Large ones first, so that no worker is left with one at the end.
  let batches: [CopyBatch]
  /// Tables copied in parts, emptied before the first part.
  let split: [RelationName]
  /// The statements that empty them.
  let clearing: [String]

  /// Tables up to this size share a transaction: a commit costs more than their rows.
  private static let smallBytes: Int64 = 1 << 20
  private static let batchBytes: Int64 = 8 << 20
  private static let batchTables = 100
  /// A part is at least this large: it loses FREEZE, and must be worth it.
  fileprivate static let partBytes: Int64 = 64 << 20

  init(batches: [CopyBatch]) {
    self.batches = batches
    split = []
    clearing = []
  }

  /// - Parameters:
  ///   - isFirst: the tables are almost empty, and have neither rules nor triggers yet.
  ///   - referenced: those that cannot be truncated because of other tables' foreign keys.
  init(
    _ relations: [Relation], workers: Int, isFirst: Bool = true, referenced: Set<RelationName> = [],
    cut: TableCut = .blocks
  ) {
    let sorted = relations.sorted { ($0.bytes, $1.name) > ($1.bytes, $0.name) }
    let total = sorted.reduce(Int64(0)) { $0.addingReportingOverflow($1.bytes).partialValue }
    let share = total / Int64(max(1, workers))
    var batches: [CopyBatch] = []
    var split: [RelationName] = []
    for relation in sorted where relation.bytes > Self.smallBytes {
      let parts = Self.parts(of: relation, share: share, workers: workers, cut)
      if parts == 1 {
        batches.append(
          CopyBatch(
            pieces: [Self.whole(relation, isFrozen: !referenced.contains(relation.name))],
            clearing: Self.clear([relation], referenced), owner: relation.owner))
      } else {
        split.append(relation.name)
        batches += (0..<parts).map {
          CopyBatch(pieces: [Self.part($0, of: parts, relation, cut)], clearing: nil, owner: relation.owner)
        }
      }
    }
    let small = Dictionary(grouping: sorted.filter { $0.bytes <= Self.smallBytes }, by: \.owner)
    for owner in small.keys.sorted() {
      batches += Self.together(small[owner] ?? []) {
        isFirst ? Self.delete($0) : Self.clear($0, referenced)
      }
    }
    self.batches = batches
    self.split = split
    clearing = sorted.filter { split.contains($0.name) }.map { Self.clear([$0], referenced) }
  }

  /// Only a table that would keep one worker busy when the others are done is worth to be cut up. A part
  /// costs both servers more than its share of the whole: the source loses its short way for a whole table,
  /// and the target FREEZE. Two workers win that back only where the work is to compress long values.
  private static func parts(
    of relation: Relation, share: Int64, workers: Int, _ cut: TableCut
  ) -> Int {
    let pieces = cut.pieces(of: relation)
    guard relation.bytes > share, pieces > 1, !relation.copiedColumns.isEmpty,
      workers > 2 || relation.isMostlyTOAST
    else { return 1 }
    let size = max(partBytes, share / 2)
    let parts = relation.bytes / size + (relation.bytes % size > 0 ? 1 : 0)
    return Int(min(parts, pieces, 1000))
  }

  private static func together(_ relations: [Relation], clearing: ([Relation]) -> String) -> [CopyBatch] {
    var batches: [CopyBatch] = []
    var batch: [Relation] = []
    var bytes: Int64 = 0
    func close() {
      guard !batch.isEmpty else { return }
      batches.append(
        CopyBatch(
          pieces: batch.map { whole($0, isFrozen: false) }, clearing: clearing(batch), owner: batch[0].owner))
      (batch, bytes) = ([], 0)
    }
    for relation in relations {
      batch.append(relation)
      bytes += relation.bytes
      if batch.count == batchTables || bytes >= batchBytes { close() }
    }
    close()
    return batches
  }

  // MARK: Statements

  /// A piece of a batch, on its own.
  static func alone(_ piece: CopyPiece, of batch: CopyBatch) -> CopyBatch {
    CopyBatch(pieces: [piece], clearing: "DELETE FROM ONLY \(piece.name)", owner: batch.owner)
  }

  /// Faster where there is nothing to delete: TRUNCATE makes new files.
  private static func delete(_ relations: [Relation]) -> String {
    relations.map { "DELETE FROM ONLY \($0.name)" }.joined(separator: "; ")
  }

  private static func clear(_ relations: [Relation], _ referenced: Set<RelationName>) -> String {
    let kept = relations.filter { referenced.contains($0.name) }
    let rest = relations.filter { !referenced.contains($0.name) }
    let truncate = "TRUNCATE \(rest.map { "ONLY \($0.name)" }.joined(separator: ", "))"
    return [rest.isEmpty ? nil : truncate, kept.isEmpty ? nil : delete(kept)].compactMap { $0 }
      .joined(separator: "; ")
  }

  /// - Parameter isFrozen: the table is truncated in the same transaction, and nobody else reads it yet.
  private static func whole(_ relation: Relation, isFrozen: Bool) -> CopyPiece {
    let list = columns(of: relation)
    let format = format(of: relation)
    return CopyPiece(
      sourceOID: relation.oid, name: relation.name, bytes: relation.bytes,
      copyOut: "COPY \(relation.name)\(list) TO STDOUT WITH (\(format))",
      copyIn: "COPY \(relation.name)\(list) FROM STDIN WITH (\(format)\(isFrozen ? ", FREEZE" : ""))")
  }

  private static func part(
    _ number: Int, of parts: Int, _ relation: Relation, _ cut: TableCut
  ) -> CopyPiece {
    let list = columns(of: relation)
    let format = format(of: relation)
    let names = relation.copiedColumns.map { SQL.identifier($0.name) }.joined(separator: ", ")
    return CopyPiece(
      sourceOID: relation.oid, name: relation.name, bytes: relation.bytes / Int64(parts), parts: parts,
      copyOut: """
        COPY (SELECT \(names) FROM ONLY \(relation.name) \
        WHERE \(cut.condition(number, of: parts, relation))) TO STDOUT WITH (\(format))
        """,
      copyIn: "COPY \(relation.name)\(list) FROM STDIN WITH (\(format))")
  }

  private static func columns(of relation: Relation) -> String {
    let columns = relation.copiedColumns
    return columns.isEmpty ? "" : " (\(columns.map { SQL.identifier($0.name) }.joined(separator: ", ")))"
  }

  private static func format(of relation: Relation) -> String {
    // COPY of a table without columns yields only the row count, and that only as text.
    let columns = relation.copiedColumns
    let isBinary = !columns.isEmpty && columns.allSatisfy { BinaryFormat.isExact(typeOID: $0.wireTypeOID) }
    return isBinary ? "FORMAT binary" : "FORMAT text"
  }
}
