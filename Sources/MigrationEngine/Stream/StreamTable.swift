import LibPQ
import LogicalReplication

/// How rows of a table are found on the target.
enum RowLookup: Sendable, Equatable {
  /// By the columns of a unique index: positions in the tuple, with their equality.
  case index([KeyColumn])
  /// By all columns: one of several equal rows.
  case wholeRow
  /// Not at all: the source refuses UPDATE and DELETE on such a table once it is published.
  case none

  struct KeyColumn: Sendable, Equatable {
    var position: Int
    var equality: String
  }
}

/// A published table as the next changes see it: which target columns a tuple's values belong to, and the
/// statements that apply a change. Created for every relation message.
final class StreamTable {
  let name: RelationName
  /// Changes of transactions that committed before it are already in the table's copy.
  let snapshotLSN: LSN
  let columnCount: Int
  let lookup: RowLookup
  let insert: String
  let delete: String
  /// Not for a table without columns, which COPY cannot list.
  let copy: String
  /// The format of the tuples' values.
  let format: ValueFormat
  /// The target's columns in the order of the tuples' values.
  let columns: [Column]
  /// The columns that identify rows, as the tuples have them; nil when only all of them together do.
  let keyColumns: [ChangedKeys.Column]?
  /// How a column's values are sent as an array; nil for one that cannot be.
  let arrayForms: [ArrayForm?]
  /// The type of the target's rows.
  let rowType: RowType
  /// The settings of its owner, where they differ from those of the session.
  let detour: UserSettings.Detour?
  private let isKey: [Bool]
  private var updates: [UpdateShape: UpdateStatement] = [:]
  private var sets = SetStatements()

  /// What an UPDATE's statement depends on.
  struct UpdateShape: Hashable {
    /// Positions whose value the UPDATE left unchanged and the source did not send.
    var unchanged: [Int]
    /// The key itself may have changed: an old tuple came along.
    var setsKey: Bool
  }

  struct UpdateStatement: Sendable {
    var sql: String
    /// Whether a value of the new tuple is a parameter, by position.
    var sets: [Bool]
  }

  /// - Throws: `DefinitionDifference` when source and target do not match; `BinaryRefusal` when the rows come
  ///   in binary and the target would misread a value.
  init(
    _ message: RelationMessage, target: TargetTable, snapshotLSN: LSN, form: StreamForm,
    detour: UserSettings.Detour? = nil
  ) throws {
    self.detour = detour
    name = target.relation.name
    self.snapshotLSN = snapshotLSN
    columnCount = message.columns.count
    columns = try RelationMatch.columns(of: message, in: target)
    try form.check(message, columns, of: name)
    format = form.format
    arrayForms = columns.map { target.arrayForms[$0.typeOID] }
    rowType = RowType(target.relation, columns)
    let lookup = try RelationMatch.lookup(message, target: target)
    self.lookup = lookup
    if case .index(let keys) = lookup {
      keyColumns = keys.map { key in
        let column = message.columns[key.position]
        return ChangedKeys.Column(name: column.name, typeOID: column.typeOID)
      }
    } else {
      keyColumns = nil
    }
    // Not what the source marks as a key: under REPLICA IDENTITY FULL it marks every column.
    isKey = message.columns.indices.map { position in
      guard case .index(let keys) = lookup else { return message.columns[position].isKey }
      return keys.contains { $0.position == position }
    }
    let names = columns.map { SQL.identifier($0.name) }
    insert =
      names.isEmpty
      ? "INSERT INTO \(name) DEFAULT VALUES"
      : """
      INSERT INTO \(name) (\(names.joined(separator: ", "))) OVERRIDING SYSTEM VALUE \
      VALUES (\(names.indices.map { "$\($0 + 1)" }.joined(separator: ", ")))
      """
    copy = "COPY \(name) (\(names.joined(separator: ", "))) FROM STDIN WITH (FORMAT \(format))"
    delete = "DELETE FROM ONLY \(name) WHERE \(Self.condition(lookup, name, columns, firstParameter: 1))"
  }

  /// Positions of the columns that identify rows; nil when only all of them together do.
  var keyPositions: [Int]? {
    guard case .index(let keys) = lookup else { return nil }
    return keys.map(\.position)
  }

  var incomplete: MigrationError {
    MigrationError(
      .failed, doing: "applying a change to table \(name)",
      reason: "the source sent a row without a required value",
      remedy: "This is a fault in replicate or in the server; nothing wrong was applied. Start again.")
  }

  /// The statement for an UPDATE, built once per shape.
  func update(_ shape: UpdateShape) -> UpdateStatement {
    if let known = updates[shape] { return known }
    var sets = [Bool](repeating: true, count: columnCount)
    for position in shape.unchanged { sets[position] = false }
    if !shape.setsKey {
      for position in isKey.indices where isKey[position] { sets[position] = false }
    }
    let set = sets.indices.filter { sets[$0] }
    let assignments = set.enumerated().map { "\(SQL.identifier(columns[$1].name)) = $\($0 + 1)" }
    let condition = Self.condition(lookup, name, columns, firstParameter: set.count + 1)
    // An UPDATE that changes nothing must still find its row.
    let sql =
      set.isEmpty
      ? "SELECT FROM ONLY \(name) WHERE \(condition)"
      : "UPDATE ONLY \(name) SET \(assignments.joined(separator: ", ")) WHERE \(condition)"
    let statement = UpdateStatement(sql: sql, sets: sets)
    // There are as many shapes as the application has kinds of UPDATE, which need not be few.
    if updates.count >= 1000 { updates.removeAll() }
    updates[shape] = statement
    return statement
  }

  /// The statement for many rows at once, built once per shape.
  func set(_ shape: SetStatements.Shape) -> SetStatements.Statement? { sets.statement(shape, for: self) }

  private static func condition(
    _ lookup: RowLookup, _ name: RelationName, _ columns: [Column], firstParameter: Int
  ) -> String {
    switch lookup {
    case .index(let keys):
      return keys.enumerated().map { offset, key in
        // Without a cast the parameter would have the operator's type, which may read text differently:
        // regclass is compared as oid.
        let column = columns[key.position]
        let value = "$\(firstParameter + offset)::\(SQL.type(column.type))"
        return "\(SQL.identifier(column.name)) \(key.equality) \(value)"
      }.joined(separator: " AND ")
    case .wholeRow: return WholeRow.condition(name, columns, firstParameter: firstParameter)
    case .none: return "false"
    }
  }
}
