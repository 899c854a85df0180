import LogicalReplication

/// The changes of one chunk, folded table by table. Changes of different tables may be reordered: in the
/// replica role nothing on the target depends on two tables: no foreign key is checked, and no trigger fires.
/// A class, so that the next chunk reuses its memory.
final class ChunkFold {
  private var folds: [TableFold] = []
  private var places: [UInt32: Int] = [:]

  private struct TableFold {
    var table: StreamTable
    var rows: RowFold
  }

  /// Adds one change of a row. Earlier changes that it cannot be folded with are written to the plan.
  /// - Parameter change: returns whether it could be folded, as `RowFold` does.
  /// - Returns: false when it must be applied by itself, now: nothing of its table is pending.
  func add(
    _ table: StreamTable, _ relationID: UInt32, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan,
    _ change: (inout RowFold) -> Bool
  ) throws -> Bool {
    let place = try place(of: table, relationID, buffer, &plan)
    if change(&folds[place].rows) { return true }
    try write(place, buffer, &plan)
    return change(&folds[place].rows)
  }

  private func place(
    of table: StreamTable, _ relationID: UInt32, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws -> Int {
    if let place = places[relationID] {
      if folds[place].table !== table {
        // The definition has changed.
        try write(place, buffer, &plan)
        folds[place] = TableFold(table: table, rows: RowFold(key: table.keyPositions))
      }
      return place
    }
    folds.append(TableFold(table: table, rows: RowFold(key: table.keyPositions)))
    places[relationID] = folds.count - 1
    return folds.count - 1
  }

  /// Writes what is pending for these tables, before something that changes all their rows.
  func write(
    _ relationIDs: [UInt32], _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    for id in relationIDs { if let place = places[id] { try write(place, buffer, &plan) } }
  }

  private func write(_ place: Int, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan) throws {
    guard !folds[place].rows.isEmpty else { return }
    let writer = FoldWriter(table: folds[place].table, fold: folds[place].rows, buffer: buffer)
    try writer.writeDeletesAndUpdates(&plan)
    try writer.writeInserts(&plan)
    plan.isFolded = true
    folds[place].rows.removeAll()
  }

  /// Writes everything pending. COPYs come last, since each costs a round trip.
  func writeAll(_ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan) throws {
    var writers = folds.filter { !$0.rows.isEmpty }.map {
      FoldWriter(table: $0.table, fold: $0.rows, buffer: buffer)
    }
    if !writers.isEmpty { plan.isFolded = true }
    for writer in writers { try writer.writeDeletesAndUpdates(&plan) }
    writers.sort { $0.insertCount < $1.insertCount }
    for writer in writers { try writer.writeInserts(&plan) }
    writers.removeAll()
    clear()
  }

  /// How many tables' memory is kept for the next chunk.
  private static let keptTables = 64

  func clear() {
    if folds.count > Self.keptTables {
      folds.removeAll()
      places.removeAll()
    }
    for place in folds.indices { folds[place].rows.removeAll() }
  }
}
