import LibPQ
import LogicalReplication

// One call for each change of a row.
extension ChangePlanner {
  mutating func add(
    _ message: InsertMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    guard let table = try change(.insert, message.relationID, columns: message.new.columnCount, &plan) else {
      return
    }
    for value in message.new.columns(in: buffer) {
      try append(value, buffer, table, &plan.batch)
    }
    plan.batch.call(table.insert, expectedRows: 1)
  }

  mutating func add(
    _ message: UpdateMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    guard let table = try change(.update, message.relationID, columns: message.new.columnCount, &plan) else {
      return
    }
    var unchanged: [Int] = []
    for (position, value) in message.new.columns(in: buffer).enumerated() where value == .unchangedTOAST {
      unchanged.append(position)
    }
    let statement = table.update(
      StreamTable.UpdateShape(unchanged: unchanged, setsKey: message.old != nil))
    for (value, isSet) in zip(message.new.columns(in: buffer), statement.sets) where isSet {
      try append(value, buffer, table, &plan.batch)
    }
    try appendKey(message.old?.tuple ?? message.new, buffer, table, &plan.batch)
    plan.batch.call(statement.sql, expectedRows: 1)
  }

  mutating func add(
    _ message: DeleteMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    let columns = message.old.tuple.columnCount
    guard let table = try change(.delete, message.relationID, columns: columns, &plan) else { return }
    try appendKey(message.old.tuple, buffer, table, &plan.batch)
    plan.batch.call(table.delete, expectedRows: 1)
  }

  mutating func add(_ message: TruncateMessage, _ plan: inout ChunkPlan) throws {
    var names: [String] = []
    for id in message.relationIDs {
      // A relation that no change has described yet is described before the TRUNCATE, so it is known here.
      if let table = try table(id, columns: nil) { names.append(table.name.description) }
    }
    guard let first = message.relationIDs.first, !names.isEmpty else { return }
    // ONLY: all that the source truncated is in the list, and its sequences are set at the cutover.
    count(.truncate, first, &plan)
    plan.batch.call("TRUNCATE ONLY \(names.joined(separator: ", ONLY "))", expectedRows: nil)
  }

  private func appendKey(
    _ tuple: TupleData, _ buffer: UnsafeRawBufferPointer, _ table: StreamTable, _ batch: inout StatementBatch
  ) throws {
    switch table.lookup {
    case .index(let keys):
      // Few keys and mostly the first columns; but an index may name them in another order than the table.
      let values = Array(tuple.columns(in: buffer))
      for key in keys {
        guard values.indices.contains(key.position) else { throw incomplete(table) }
        try append(values[key.position], buffer, table, &batch)
      }
    case .wholeRow:
      for value in tuple.columns(in: buffer) { try append(value, buffer, table, &batch) }
    case .none:
      throw MigrationError(
        .failed, doing: "applying a change to table \(table.name)",
        reason: "the source sent it without a replica identity",
        remedy: "Give the table a primary key or REPLICA IDENTITY FULL on the source, and start again.")
    }
  }

  private func append(
    _ value: ColumnValue, _ buffer: UnsafeRawBufferPointer, _ table: StreamTable,
    _ batch: inout StatementBatch
  ) throws {
    switch value {
    case .null: batch.appendNull()
    case .text(let range): batch.append(UnsafeRawBufferPointer(rebasing: buffer[range]))
    case .unchangedTOAST, .binary: throw incomplete(table)
    }
  }

  private func incomplete(_ table: StreamTable) -> MigrationError {
    MigrationError(
      .failed, doing: "applying a change to table \(table.name)",
      reason: "the source sent a row without a value that is needed",
      remedy: "This is a fault in replicate or in the server; nothing wrong was applied. Start again.")
  }
}
