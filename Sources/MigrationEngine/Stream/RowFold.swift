import LogicalReplication

/// The changes of one table's rows, folded into one per row, from its first state to its last. Pure; rows are
/// identified by the bytes of their keys.
///
/// Deletes go first, then updates, then inserts: a key value that one row gives up is then free for another.
/// Where that is not enough the server objects, and the changes are applied one by one.
struct RowFold {
  enum State {
    /// No change of the row yet.
    case untouched
    /// The row was not there before, and is now.
    case insert
    /// The row was there, and has other values now.
    case update
    /// The row was there, and is gone.
    case delete
    /// The row was deleted, and another one took its key.
    case replace
    /// The row was inserted and deleted again.
    case nothing

    var inserting: State? {
      switch self {
      case .untouched, .nothing: .insert
      case .delete: .replace
      case .insert, .update, .replace: nil
      }
    }

    var updating: State? {
      switch self {
      case .untouched, .update: .update
      case .insert, .replace: self
      case .delete, .nothing: nil
      }
    }

    var deleting: State? {
      switch self {
      case .untouched, .update, .replace: .delete
      case .insert: .nothing
      case .delete, .nothing: nil
      }
    }
  }

  struct Row {
    var state = State.untouched
    /// A tuple that has the key's values.
    var key: TupleData
    /// Its newest values, as an index of the versions; -1 for a row that is gone.
    var version = -1
  }

  /// Values of a row, as one change gave them.
  private struct Version {
    var tuple: TupleData
    /// The version that has what this one left unchanged; -1 when there is none.
    var previous: Int
  }

  /// Positions of the key's columns; nil for tables whose rows have none, of which only inserts are folded.
  private let key: [Int]?
  private(set) var rows: [Row] = []
  private var versions: [Version] = []
  private var index = KeyIndex()
  private var scratch: [ColumnValue] = []

  init(key: [Int]?) { self.key = key }

  var isEmpty: Bool { rows.isEmpty }

  mutating func removeAll() {
    rows.removeAll(keepingCapacity: true)
    versions.removeAll(keepingCapacity: true)
    index.removeAll()
  }

  // MARK: Changes

  // Each returns false, and changes no row, when the change does not follow from those before or cannot be
  // folded: then what is pending must be applied first.

  mutating func insert(_ new: TupleData, _ buffer: UnsafeRawBufferPointer) -> Bool {
    guard key != nil else {
      rows.append(Row(state: .insert, key: new, version: add(new, after: -1)))
      return true
    }
    guard let row = row(of: new, buffer), let state = rows[row].state.inserting else { return false }
    rows[row] = Row(state: state, key: new, version: add(new, after: -1))
    return true
  }

  mutating func delete(_ old: TupleData, _ buffer: UnsafeRawBufferPointer) -> Bool {
    guard let row = row(of: old, buffer), let state = rows[row].state.deleting else { return false }
    rows[row] = Row(state: state, key: old)
    return true
  }

  /// - Parameter old: what the source sent of the old row: its key when that changed, all of it under
  ///   REPLICA IDENTITY FULL.
  mutating func update(old: OldTuple?, new: TupleData, _ buffer: UnsafeRawBufferPointer) -> Bool {
    guard let row = row(of: new, buffer) else { return false }
    if let old {
      guard let left = self.row(of: old.tuple, buffer) else { return false }
      if left != row { return move(left, to: row, old, new, buffer) }
    }
    guard let state = rows[row].state.updating else { return false }
    let previous = hasUnchanged(new, buffer) ? rows[row].version : -1
    rows[row] = Row(state: state, key: new, version: add(new, after: previous))
    return true
  }

  /// The row changes its key: a delete and an insert, when all its values are known.
  private mutating func move(
    _ left: Int, to taken: Int, _ old: OldTuple, _ new: TupleData, _ buffer: UnsafeRawBufferPointer
  ) -> Bool {
    guard let leaving = rows[left].state.deleting, let taking = rows[taken].state.inserting else {
      return false
    }
    var previous = -1
    if hasUnchanged(new, buffer) {
      previous = rows[left].version
      if previous < 0, case .full(let tuple) = old { previous = add(tuple, after: -1) }
    }
    let version = add(new, after: previous)
    guard values(of: version, buffer).allSatisfy({ !$0.isUnchangedTOAST }) else { return false }
    rows[left] = Row(state: leaving, key: old.tuple)
    rows[taken] = Row(state: taking, key: new, version: version)
    return true
  }

  // MARK: Rows and their values

  /// The row with a tuple's key; nil when the tuple lacks a value of the key.
  private mutating func row(of tuple: TupleData, _ buffer: UnsafeRawBufferPointer) -> Int? {
    guard let key else { return nil }
    scratch.removeAll(keepingCapacity: true)
    let needed = (key.max() ?? -1) + 1
    for value in tuple.columns(in: buffer) {
      if scratch.count == needed { break }
      scratch.append(value)
    }
    for position in key {
      guard position < scratch.count, let range = scratch[position].bytes else {
        index.discard()
        return nil
      }
      index.append(UnsafeRawBufferPointer(rebasing: buffer[range]))
    }
    let number = index.number()
    if number == rows.count { rows.append(Row(key: tuple)) }
    return number
  }

  private mutating func add(_ tuple: TupleData, after previous: Int) -> Int {
    versions.append(Version(tuple: tuple, previous: previous))
    return versions.count - 1
  }

  private func hasUnchanged(_ tuple: TupleData, _ buffer: UnsafeRawBufferPointer) -> Bool {
    for value in tuple.columns(in: buffer) where value.isUnchangedTOAST { return true }
    return false
  }

  /// All values of a row; `.unchangedTOAST` where no change since the fold began gave one.
  func values(of version: Int, _ buffer: UnsafeRawBufferPointer) -> [ColumnValue] {
    var values: [ColumnValue] = []
    collectValues(of: version, buffer, into: &values)
    return values
  }

  /// The same, added to `values`.
  func collectValues(
    of version: Int, _ buffer: UnsafeRawBufferPointer, into values: inout [ColumnValue]
  ) {
    let start = values.count
    values.append(contentsOf: versions[version].tuple.columns(in: buffer))
    var previous = versions[version].previous
    while previous >= 0 {
      for (offset, value) in versions[previous].tuple.columns(in: buffer).enumerated()
      where start + offset < values.count && values[start + offset].isUnchangedTOAST {
        values[start + offset] = value
      }
      previous = versions[previous].previous
    }
  }

  /// The tuple with all values of a row; nil when they come from several.
  func tuple(of version: Int) -> TupleData? {
    versions[version].previous < 0 ? versions[version].tuple : nil
  }

  /// Size of a row's newest change.
  func byteCount(of version: Int) -> Int { versions[version].tuple.bytes.count }
}
