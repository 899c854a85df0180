/// A table's definition on the source when it was copied, and which target column has the values of which
/// source column: this shows whether the target's rows are still the source's.
///
/// A table is identified by its OID, a column by its number, whatever their names. The stream does not carry
/// what an ALTER TABLE does to existing rows; the catalogs show it (manual, chapter 53).
struct TableLineage: Sendable, Codable, Equatable {
  struct Pair: Sendable, Codable, Equatable {
    /// On the source.
    var number: Int
    /// The transaction that last changed its definition on the source.
    var revision: String
    /// On the target.
    var targetNumber: Int
  }

  /// The source's file: changes when all its rows are rewritten.
  var fileNode: UInt32
  var targetOID: UInt32
  var columns: [Pair]

  /// For matching tables: columns are matched by name.
  init(source: Relation, target: Relation) {
    fileNode = source.fileNode
    targetOID = target.oid
    let theirs = target.columnsByName
    columns = source.columns.compactMap { column in
      theirs[column.name].map {
        Pair(number: column.number, revision: column.revision, targetNumber: $0.number)
      }
    }
  }

  /// Compares what both ends have now with it.
  enum Verdict: Sendable, Equatable {
    /// The rows are the source's. The current lineage, which may have changed.
    case follows(TableLineage)
    /// The definitions match; the rows on the target may differ.
    case copyAgain(reason: String)
    case differs(TableDifference)
  }

  /// - Parameters:
  ///   - targetFile: the target's file when the lineage was stored.
  ///   - taken: whether the target has a table of this name.
  func verdict(
    source: Relation, target: Relation, targetFile: UInt32?, taken: (RelationName) -> Bool = { _ in false }
  ) -> Verdict {
    let match = LineageMatch(lineage: self, source: source, target: target)
    if let difference = match.difference(taken) { return .differs(difference) }
    if let reason = match.reasonToCopy(targetWasRewritten: targetFile != target.fileNode) {
      return .copyAgain(reason: reason)
    }
    return .follows(TableLineage(source: source, target: target))
  }
}

/// What makes a table of the target match the source's again.
struct TableDifference: Sendable, Equatable {
  var reason: String
  /// Statements for the target.
  var remedy: String
  /// The rows must be copied again as well: it is empty until then, so any conversion will do.
  var isToBeCopied: Bool
}

extension Relation {
  var columnsByName: [String: Column] {
    Dictionary(columns.map { ($0.name, $0) }) { first, _ in first }
  }

  var columnsByNumber: [Int: Column] {
    Dictionary(columns.map { ($0.number, $0) }) { first, _ in first }
  }
}
