/// Compares a table's current state on both ends with the stored one: which columns belong together, where
/// they differ, and what that means for the rows. Pure.
struct LineageMatch {
  private let source: Relation
  private let target: Relation
  private let lineage: TableLineage
  /// The previous columns, by their numbers on the source.
  private let earlier: [Int: TableLineage.Pair]
  private let theirs: [Int: Column]
  /// The target's columns that it did not have before.
  private let newTheirs: [String: Column]
  private let remedy: ColumnRemedy

  init(lineage: TableLineage, source: Relation, target: Relation) {
    self.lineage = lineage
    self.source = source
    self.target = target
    earlier = Dictionary(lineage.columns.map { ($0.number, $0) }) { first, _ in first }
    theirs = target.columnsByNumber
    let known = Set(lineage.columns.map(\.targetNumber))
    newTheirs = target.columnsByName.filter { !known.contains($0.value.number) }
    remedy = ColumnRemedy(table: target.name, wasRewritten: source.fileNode != lineage.fileNode)
  }

  /// A column whose values may have changed, or are not known from the catalogs.
  private func isRewritten(_ column: Column) -> Bool {
    remedy.wasRewritten && !column.isGenerated && earlier[column.number]?.revision != column.revision
  }

  /// The target's column that has, or will have, the values of a source column.
  private func partner(of column: Column) -> Column? {
    earlier[column.number].flatMap { theirs[$0.targetNumber] } ?? newTheirs[column.name]
  }

  // MARK: Definitions

  /// What must change on the target; nil when it fits.
  /// - Parameter taken: whether the target has another table of this name.
  func difference(_ taken: (RelationName) -> Bool) -> TableDifference? {
    var found: [ColumnDifference] = []
    if target.isUnlogged, !source.isUnlogged {
      found.append(("it is unlogged on the target", "ALTER TABLE \(target.name) SET LOGGED;"))
    }
    found += stray.map {
      ("the target has column \(SQL.identifier($0.name)), the source has not", remedy.drop($0))
    }
    found += source.columns.compactMap(difference(of:))
    // Last: the other statements use the current name.
    if target.name != source.name {
      found.append(
        (
          "it is \(source.name) on the source",
          ColumnRemedy.rename(target, to: source.name, isTaken: taken(source.name))
        ))
    }
    guard !found.isEmpty else { return nil }
    return TableDifference(
      reason: found.map(\.reason).joined(separator: "; "),
      remedy: found.map(\.remedy).joined(separator: " "),
      isToBeCopied: source.columns.contains(where: isRewritten))
  }

  private typealias ColumnDifference = (reason: String, remedy: String)

  /// Columns of the target that the source lacks.
  private var stray: [Column] {
    let partners = Set(source.columns.compactMap { partner(of: $0)?.number })
    return target.columns.filter { !partners.contains($0.number) }
  }

  private func difference(of column: Column) -> ColumnDifference? {
    let quoted = SQL.identifier(column.name)
    guard let theirs = partner(of: column) else {
      return ("the source has column \(quoted), the target has not", remedy.add(column))
    }
    if theirs.name != column.name {
      let isTaken = target.columns.contains { $0.name == column.name && !stray.contains($0) }
      return (
        "column \(SQL.identifier(theirs.name)) is \(quoted) on the source",
        remedy.rename(theirs, to: column.name, isTaken: isTaken)
      )
    }
    if theirs.isGenerated != column.isGenerated {
      return theirs.isGenerated
        ? (
          "column \(quoted) is generated on the target and not on the source", remedy.dropExpression(column)
        )
        : (
          "column \(quoted) is generated on the source and not on the target",
          "\(remedy.drop(theirs)) \(remedy.add(column))"
        )
    }
    if !theirs.holds(column) || theirs.collation != column.collation {
      return (
        """
        column \(quoted) is of type \(theirs.typeAndCollation) on the target and of \
        \(column.typeAndCollation) on the source
        """, remedy.retype(column, converting: isRewritten(column))
      )
    }
    guard theirs.identity == .always else { return nil }
    return (
      "column \(quoted) is GENERATED ALWAYS on the target, and refuses the source's values",
      remedy.relax(column)
    )
  }

  // MARK: Rows

  /// Why the target's rows may differ from the source's although the definitions fit; nil when they do not.
  /// - Parameter targetWasRewritten: its rows may have got values that the catalogs do not show.
  func reasonToCopy(targetWasRewritten: Bool) -> String? {
    if lineage.targetOID != target.oid { return "the target's table is another one" }
    for column in source.columns where !column.isGenerated {
      let quoted = SQL.identifier(column.name)
      if isRewritten(column) {
        return "its rows were written anew on the source, and column \(quoted) was changed"
      }
      if let pair = earlier[column.number] {
        if theirs[pair.targetNumber] == nil { return "column \(quoted) is another one on the target" }
        continue
      }
      // New on both ends: existing rows have the values in the catalogs.
      let missing = partner(of: column)?.missingValue
      if missing != column.missingValue || (missing == nil && targetWasRewritten) {
        return "column \(quoted) has other values in the rows that the target had"
      }
    }
    return nil
  }
}

extension Column {
  var typeAndCollation: String { type + (collation.map { " COLLATE \($0)" } ?? "") }
}
