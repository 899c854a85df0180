/// What a table was on the source when it was copied, and which column of the target has the values of which
/// of the source's: what says whether the rows that are on the target are still what the source has.
///
/// A table is known by its OID, a column by its number, whatever they are called. No stream carries what
/// an ALTER TABLE makes of the rows that are there; it shows in the catalogs (manual, chapter 53).
struct TableLineage: Sendable, Codable, Equatable {
  struct Pair: Sendable, Codable, Equatable {
    /// On the source.
    var number: Int
    /// The transaction that last changed its definition on the source.
    var revision: String
    /// On the target.
    var targetNumber: Int
  }

  /// The source's file: another one when all its rows were written anew.
  var fileNode: UInt32
  var targetOID: UInt32
  var columns: [Pair]

  /// Of tables that fit together: columns belong together by their names.
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

  /// What both ends have now, held against it.
  enum Verdict: Sendable, Equatable {
    /// The rows are the source's. The lineage of now, which may be another.
    case follows(TableLineage)
    /// The definitions fit; the rows that are on the target may be others.
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

/// What it takes that a table of the target fits the source's again.
struct TableDifference: Sendable, Equatable {
  var reason: String
  /// Statements for the target.
  var remedy: String
  /// The rows must come again as well: it is empty until then, so that any conversion will do.
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
