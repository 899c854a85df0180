import LogicalReplication
import Synchronization

/// Records which rows the stream has changed since both ends were compared, within limits: what a cutover
/// still has to compare. It lives as long as the stream's monitor; without it nothing is known.
final class ChangedRowTracker: Sendable {
  struct Limits: Sendable {
    /// Rows of one table; of a table with more, all rows count as changed.
    var rows = 200_000
    /// For all tables; beyond it single rows are no longer recorded.
    var bytes = 64 << 20
  }

  /// The rows changed since one comparison.
  private struct Recording {
    /// Later ones are larger.
    var epoch: Int
    var lsn: LSN
    var versions: TableVersions
    var tables: [UInt32: Table] = [:]
    var byteCount = 0
  }

  private struct Table {
    var name: RelationName
    var isAll = false
    var batches: [ChangedKeys] = []
    /// Keys in the newest batch.
    var seen: Set<[UInt8]> = []
    var rowCount = 0
    var byteCount = 0
  }

  private struct State {
    var epoch = 0
    /// Since the last completed comparison.
    var kept: Recording?
    /// Since the one in progress.
    var pending: Recording?

    mutating func each(_ body: (inout Recording) -> Void) {
      if var recording = kept {
        kept = nil
        body(&recording)
        kept = recording
      }
      if var recording = pending {
        pending = nil
        body(&recording)
        pending = recording
      }
    }
  }

  private let limits: Limits
  private let state = Mutex(State())

  init(limits: Limits = Limits()) { self.limits = limits }

  /// Both ends are being read: at this moment nothing that commits at or after `lsn` is applied.
  /// - Parameter versions: of the tables, read before.
  func begin(at lsn: LSN, _ versions: TableVersions) {
    state.withLock { state in
      state.epoch += 1
      state.pending = Recording(epoch: state.epoch, lsn: lsn, versions: versions)
    }
  }

  /// The comparison was not completed.
  func discard() { state.withLock { $0.pending = nil } }

  /// The comparison was completed: changes count from it.
  /// - Parameter tables: those that differed, by OID on the end that changes come from: all their rows count
  ///   as changed.
  func keep(different tables: [UInt32: RelationName]) {
    state.withLock { state in
      guard var recording = state.pending else { return }
      for (id, name) in tables { Self.markAll(name, id, &recording) }
      state.kept = recording
      state.pending = nil
    }
  }

  struct Touched: Sendable {
    /// Its OID on the end that changes come from.
    var relationID: UInt32
    var name: RelationName
    var rows: ChangedRows
  }

  /// The rows changed since the last comparison, and the tables at that time; nil without a comparison.
  var touched: (since: LSN, versions: TableVersions, tables: [Touched])? {
    state.withLock { state in
      guard let kept = state.kept else { return nil }
      let tables = kept.tables.map { id, table in
        Touched(relationID: id, name: table.name, rows: table.isAll ? .all : .keys(table.batches))
      }
      return (kept.lsn, kept.versions, tables)
    }
  }

  // MARK: The stream's own side

  /// Zero while nothing is recorded. A streamed transaction keeps the value from its beginning.
  var epoch: Int { state.withLock { $0.kept == nil && $0.pending == nil ? 0 : $0.epoch } }

  /// - Parameter key: the values of the key's columns, each preceded by its length; nil when it is not known.
  func note(_ table: StreamTable, _ id: UInt32, key: TouchedKey?) {
    state.withLock { state in
      state.each { recording in
        guard let key, let columns = table.keyColumns else {
          return Self.markAll(table.name, id, &recording)
        }
        note(table, id, columns, key, &recording)
      }
    }
  }

  private func note(
    _ table: StreamTable, _ id: UInt32, _ columns: [ChangedKeys.Column], _ key: TouchedKey,
    _ recording: inout Recording
  ) {
    var entry = recording.tables.removeValue(forKey: id) ?? Table(name: table.name)
    defer { recording.tables[id] = entry }
    entry.name = table.name
    guard !entry.isAll else { return }
    if entry.batches.last?.columns != columns || entry.batches.last?.format != table.format {
      entry.batches.append(ChangedKeys(columns: columns, format: table.format))
      entry.seen = []
    }
    guard entry.seen.insert(key.bytes).inserted else { return }
    let bytes = 2 * key.bytes.count + Self.bytesBesides
    guard entry.rowCount < limits.rows, recording.byteCount + bytes <= limits.bytes else {
      recording.byteCount -= entry.byteCount
      entry = Table(name: table.name, isAll: true)
      return
    }
    key.forEachValue { entry.batches[entry.batches.count - 1].append($0) }
    entry.rowCount += 1
    entry.byteCount += bytes
    recording.byteCount += bytes
  }

  /// Approximate overhead of a key.
  private static let bytesBesides = 96

  /// All rows of a table may have changed.
  func noteAll(_ table: StreamTable, _ id: UInt32) {
    state.withLock { $0.each { Self.markAll(table.name, id, &$0) } }
  }

  /// Commits a transaction that was streamed since before `epoch`: its earlier changes are not known row by
  /// row.
  func noteStreamed(since epoch: Int, _ tables: [UInt32: StreamTable?]) {
    state.withLock { state in
      state.each { recording in
        guard recording.epoch > epoch else { return }
        for case (let id, let table?) in tables { Self.markAll(table.name, id, &recording) }
      }
    }
  }

  private static func markAll(_ name: RelationName, _ id: UInt32, _ recording: inout Recording) {
    recording.byteCount -= recording.tables[id]?.byteCount ?? 0
    recording.tables[id] = Table(name: name, isAll: true)
  }
}

/// The key of one row: its values, each preceded by its length.
struct TouchedKey {
  private(set) var bytes: [UInt8] = []

  /// Nil when a value is missing, which should not happen.
  init?(_ tuple: TupleData, at positions: [Int], in buffer: UnsafeRawBufferPointer) {
    guard let last = positions.max() else { return nil }
    var ranges: [Range<Int>?] = []
    for value in tuple.columns(in: buffer) {
      ranges.append(value.bytes)
      if ranges.count > last { break }
    }
    guard ranges.count > last else { return nil }
    for position in positions {
      guard let range = ranges[position] else { return nil }
      withUnsafeBytes(of: UInt32(range.count)) { bytes.append(contentsOf: $0) }
      bytes.append(contentsOf: buffer[range])
    }
  }

  func forEachValue(_ body: (UnsafeRawBufferPointer) -> Void) {
    bytes.withUnsafeBytes { all in
      var offset = 0
      while offset + 4 <= all.count {
        let count = Int(all.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        body(UnsafeRawBufferPointer(rebasing: all[(offset + 4)..<(offset + 4 + count)]))
        offset += 4 + count
      }
    }
  }
}
