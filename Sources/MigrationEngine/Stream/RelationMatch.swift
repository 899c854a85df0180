import LogicalReplication

/// A source table no longer matches the target's: people must act before the stream can continue.
struct DefinitionDifference: Error {
  var error: MigrationError
  /// The table does not differ: it was created during the migration.
  var isNewTable = false
  /// The columns differ, as the catalogs of both ends show.
  var isOfColumns = false
  /// The ends match by now; only the stream's changes of the table are older: its rows must be copied again.
  var isOutdated = false
  /// What the source said about the table.
  var message: RelationMessage?
  /// Where the transaction that saw this definition committed.
  var lsn = LSN.zero
  /// How many messages of the chunk come before it and end with a whole transaction.
  var wholeMessages = 0
}

/// A table of the target as the stream needs to know it.
struct TargetTable: Sendable {
  var relation: Relation
  var uniqueIndexes: [UniqueIndex]
  /// How many values of a column are sent as one array, by the type's OID.
  var arrayForms: [UInt32: ArrayForm]
  /// The table as it is on the source by now; the stream may be far behind. Nil when that is not known.
  var source: Relation?
  /// What it takes to make it match the source by now; nil where nothing is known to differ.
  var difference: TableDifference?
  /// What the ends are called.
  var direction = Direction.forward

  init(
    relation: Relation, uniqueIndexes: [UniqueIndex], arrayForms: [UInt32: ArrayForm], source: Relation?
  ) {
    self.relation = relation
    self.uniqueIndexes = uniqueIndexes
    self.arrayForms = arrayForms
    self.source = source
  }
}

/// Compares the source's description of a table with what the target has. Nothing is guessed: a difference
/// stops the stream and is reported. The target may be ahead of the stream, as the source itself is.
enum RelationMatch {
  /// The target's columns in the order of the tuples' values.
  /// - Throws: `DefinitionDifference`.
  static func columns(of message: RelationMessage, in target: TargetTable) throws -> [Column] {
    let name = target.relation.name
    let (from, to) = (target.direction.from, target.direction.to)
    func different(_ reason: String, _ remedy: String) -> DefinitionDifference {
      var difference = Self.different(name, target.direction, reason, remedy)
      difference.isOfColumns = true
      return difference
    }
    let theirs = target.relation.columnsByName
    let now = target.source?.columnsByName ?? [:]
    let remedy = ColumnRemedy(table: name, wasRewritten: false)
    let columns = try message.columns.map { column in
      let quoted = SQL.identifier(column.name)
      guard let match = theirs[column.name] else {
        throw different(
          "the \(from) has column \(quoted), the \(to) does not",
          now[column.name].map(remedy.add) ?? "ALTER TABLE \(name) ADD COLUMN \(quoted) …;")
      }
      guard !match.isGenerated else {
        throw different(
          "column \(quoted) is generated on the \(to) and not on the \(from)", remedy.dropExpression(match))
      }
      guard holds(match, column, now: now[column.name]) else {
        let type = now[column.name]?.typeAndCollation
        throw different(
          "column \(quoted) is of type \(match.type) on the \(to) and \(type ?? "another") on the \(from)",
          now[column.name].map { remedy.retype($0, converting: false) }
            ?? "ALTER TABLE \(name) ALTER COLUMN \(quoted) TYPE …;")
      }
      return match
    }
    let sent = Set(message.columns.map(\.name))
    for column in target.relation.columns where !column.isGenerated && !sent.contains(column.name) {
      let quoted = SQL.identifier(column.name)
      guard let source = now[column.name] else {
        throw different("the \(to) has column \(quoted), the \(from) does not", remedy.drop(column))
      }
      guard !source.isGenerated else {
        throw different(
          "column \(quoted) is generated on the \(from) and not on the \(to)",
          "\(remedy.drop(column)) \(remedy.add(source))")
      }
      // Rows older than the column come without it: both ends agree only on NULL for them.
      guard column.expression == nil, column.identity == .none, source.missingValue == nil else {
        throw different("column \(quoted) is newer than the rows in the stream", "")
      }
    }
    return columns
  }

  /// Whether the target's column can hold what the source sends, or matches the source's column by now.
  private static func holds(_ match: Column, _ column: RelationMessage.Column, now: Column?) -> Bool {
    let typeName = now.flatMap { $0.typeOID == column.typeOID ? $0.typeName : nil }
    return match.holds(typeOID: column.typeOID, typeName: typeName, modifier: column.typeModifier)
      || now.map(match.holds) ?? false
  }

  static func lookup(_ message: RelationMessage, target: TargetTable) throws -> RowLookup {
    var positions: [String: Int] = [:]
    for (position, column) in message.columns.enumerated() { positions[column.name] = position }
    func keys(_ index: UniqueIndex) -> [RowLookup.KeyColumn]? {
      let keys = index.keys.compactMap { key in
        positions[key.column].map { RowLookup.KeyColumn(position: $0, equality: key.equality) }
      }
      return keys.count == index.keys.count ? keys : nil
    }
    switch message.replicaIdentity {
    case .full:
      // Old tuples are whole rows; a key in them finds the row without reading the table. A nullable one does
      // not identify rows.
      let notNull = Set(target.relation.columns.filter(\.isNotNull).map(\.name))
      let key = target.uniqueIndexes.first { index in
        index.isPrimary || index.keys.allSatisfy { notNull.contains($0.column) }
      }
      return key.flatMap(keys).map(RowLookup.index) ?? .wholeRow
    case .nothing: return .none
    case .primaryKey, .index:
      let wanted = Set(message.columns.filter(\.isKey).map(\.name))
      guard !wanted.isEmpty else { return .none }
      guard let index = target.uniqueIndexes.first(where: { Set($0.keys.map(\.column)) == wanted }),
        let keys = keys(index)
      else {
        let identity = wanted.sorted().map(SQL.identifier).joined(separator: ", ")
        let direction = target.direction
        throw different(
          target.relation.name, direction,
          "the \(direction.to) has no unique index on its replica identity (\(identity))",
          "create the unique index as it is on the \(direction.from).")
      }
      return .index(keys)
    }
  }

  static func different(
    _ name: RelationName, _ direction: Direction, _ reason: String, _ remedy: String
  ) -> DefinitionDifference {
    DefinitionDifference(
      error: MigrationError(
        .failed, doing: "following the definition of table \(name)", reason: reason,
        remedy:
          "It was changed on the \(direction.from) during the migration. Do the same on the \(direction.to), "
          + "and the stream continues by itself: \(remedy)"))
  }
}
