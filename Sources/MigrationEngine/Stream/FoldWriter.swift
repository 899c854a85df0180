import LibPQ
import LogicalReplication

/// Writes a table's folded changes into a plan: many rows by one statement or COPY, few by one each.
struct FoldWriter {
  let table: StreamTable
  let fold: RowFold
  let buffer: UnsafeRawBufferPointer

  /// From this many rows on, one statement for all, which the server must plan, costs less than one per row.
  private static let setRows = 32
  /// Larger rows are applied singly: an array of them would need their memory several times.
  private static let largeRowBytes = 256 << 10

  /// Rows of one kind of change, with all their values one after the other.
  private struct Group {
    var values: [ColumnValue] = []
    var count = 0
  }

  // MARK: Deletes and updates

  func writeDeletesAndUpdates(_ plan: inout ChunkPlan) throws {
    var deletes = Group()
    for row in fold.rows where row.state == .delete || row.state == .replace {
      deletes.values.append(contentsOf: row.key.columns(in: buffer))
      deletes.count += 1
    }
    try write(deletes, .delete, &plan)
    for (unchanged, group) in updates() { try write(group, .update(unchanged: unchanged), &plan) }
  }

  /// The updates, grouped by the columns that they leave unchanged.
  private func updates() -> [(unchanged: [Int], group: Group)] {
    var groups: [(unchanged: [Int], group: Group)] = [([], Group())]
    var places: [[Int]: Int] = [[]: 0]
    var values: [ColumnValue] = []
    for row in fold.rows where row.state == .update {
      values.removeAll(keepingCapacity: true)
      fold.collectValues(of: row.version, buffer, into: &values)
      var place = 0
      if values.contains(where: \.isUnchangedTOAST) {
        let unchanged = values.indices.filter { values[$0].isUnchangedTOAST }
        place = places[unchanged] ?? groups.count
        if place == groups.count {
          places[unchanged] = place
          groups.append((unchanged, Group()))
        }
      }
      groups[place].group.values += values
      groups[place].group.count += 1
    }
    return groups
  }

  private func write(_ group: Group, _ shape: SetStatements.Shape, _ plan: inout ChunkPlan) throws {
    guard group.count > 0 else { return }
    plan.take(table.detour)
    var rows = Array(0..<group.count)
    if group.count >= Self.setRows, let statement = table.set(shape) {
      let large = rows.filter { isLarge($0, group) }
      if !large.isEmpty { rows.removeAll { isLarge($0, group) } }
      if rows.count >= Self.setRows {
        try write(rows, of: group, statement, &plan)
        rows = large
      } else {
        rows = Array(0..<group.count)
      }
    }
    for row in rows {
      let first = row * table.columnCount
      let values = group.values[first..<first + table.columnCount]
      switch shape {
      case .delete:
        try plan.append { try append(key: values, &$0) }
        plan.call(table.delete, expectedRows: 1)
      case .update(let unchanged):
        let statement = table.update(StreamTable.UpdateShape(unchanged: unchanged, setsKey: false))
        try plan.append { batch in
          for (value, isSet) in zip(values, statement.sets) where isSet {
            try batch.append(value, buffer, of: table)
          }
          try append(key: values, &batch)
        }
        plan.call(statement.sql, expectedRows: 1)
      }
    }
  }

  private func write(
    _ rows: [Int], of group: Group, _ statement: SetStatements.Statement, _ plan: inout ChunkPlan
  ) throws {
    plan.isFolded = true
    func value(_ row: Int, _ position: Int) throws -> UnsafeRawBufferPointer? {
      try table.element(group.values[rows[row] * table.columnCount + position], buffer)
    }
    try plan.append { batch in
      for parameter in statement.parameters {
        switch parameter {
        case .array(let position, let syntax):
          try batch.appendArray(count: rows.count, syntax) { try value($0, position) }
        case .rows(let type):
          try batch.appendRows(count: rows.count, type.syntax) { row, column in
            try type.positions[column].flatMap { try value(row, $0) }
          }
        }
      }
    }
    plan.call(statement.sql, expectedRows: rows.count, isPrepared: false)
  }

  private func isLarge(_ row: Int, _ group: Group) -> Bool {
    let first = row * table.columnCount
    var bytes = 0
    for value in group.values[first..<first + table.columnCount] {
      bytes += value.bytes?.count ?? 0
    }
    return bytes > Self.largeRowBytes
  }

  // MARK: Inserts

  /// How many rows are to be inserted.
  var insertCount: Int {
    fold.rows.reduce(0) { $0 + ($1.state == .insert || $1.state == .replace ? 1 : 0) }
  }

  func writeInserts(_ plan: inout ChunkPlan) throws {
    guard insertCount > 0 else { return }
    plan.take(table.detour)
    let isCopied = insertCount >= Self.setRows && table.columnCount > 0
    var copied = CopyData(
      table.format, columnCount: table.columnCount, capacity: isCopied ? copyCapacity : 0)
    var values: [ColumnValue] = []
    for row in fold.rows where row.state == .insert || row.state == .replace {
      if isCopied, fold.byteCount(of: row.version) <= Self.largeRowBytes {
        if let tuple = fold.tuple(of: row.version) {
          for value in tuple.columns(in: buffer) { copied.append(try table.element(value, buffer)) }
        } else {
          values.removeAll(keepingCapacity: true)
          fold.collectValues(of: row.version, buffer, into: &values)
          for value in values { copied.append(try table.element(value, buffer)) }
        }
        copied.endRow()
      } else {
        values.removeAll(keepingCapacity: true)
        fold.collectValues(of: row.version, buffer, into: &values)
        try plan.append { batch in
          for value in values { try batch.append(value, buffer, of: table) }
        }
        plan.call(table.insert, expectedRows: 1)
      }
    }
    let count = copied.rowCount
    if count > 0 {
      plan.isFolded = true
      plan.copy(table.copy, copied.finished(), rowCount: count)
    }
  }

  /// About as many bytes as the rows had in the stream: their kind bytes offset what COPY adds.
  private var copyCapacity: Int {
    fold.rows.reduce(64) { bytes, row in
      guard row.version >= 0 else { return bytes }
      return bytes + min(fold.byteCount(of: row.version), Self.largeRowBytes) + 8
    }
  }

  // MARK: Keys

  private func append(key values: ArraySlice<ColumnValue>, _ batch: inout StatementBatch) throws {
    guard case .index(let keys) = table.lookup else { throw table.incomplete }
    for key in keys { try batch.append(values[values.startIndex + key.position], buffer, of: table) }
  }
}
