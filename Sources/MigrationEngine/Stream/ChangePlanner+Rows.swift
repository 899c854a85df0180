import LibPQ
import LogicalReplication

// Row changes: folded, or one call each.
extension ChangePlanner {
  mutating func add(
    _ message: InsertMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    let id = message.relationID
    guard let (table, change) = try change(.insert, id, message.new, &plan) else { return }
    touch(table, id, buffer, message.new)
    if let fold, try fold.add(table, id, buffer, &plan, { $0.insert(message.new, buffer) }) { return }
    plan.take(table.detour)
    try plan.append { batch in
      for value in message.new.columns(in: buffer) { try batch.append(value, buffer, of: table) }
    }
    plan.call(table.insert, expectedRows: 1, origin: change)
  }

  mutating func add(
    _ message: UpdateMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    let id = message.relationID
    guard let (table, change) = try change(.update, id, message.new, &plan) else { return }
    touch(table, id, buffer, message.old?.tuple, message.new)
    if let fold,
      try fold.add(table, id, buffer, &plan, { $0.update(old: message.old, new: message.new, buffer) })
    {
      return
    }
    var unchanged: [Int] = []
    for (position, value) in message.new.columns(in: buffer).enumerated() where value.isUnchangedTOAST {
      unchanged.append(position)
    }
    let statement = table.update(
      StreamTable.UpdateShape(unchanged: unchanged, setsKey: message.old != nil))
    plan.take(table.detour)
    try plan.append { batch in
      for (value, isSet) in zip(message.new.columns(in: buffer), statement.sets) where isSet {
        try batch.append(value, buffer, of: table)
      }
      try appendKey(message.old?.tuple ?? message.new, buffer, table, &batch)
    }
    plan.call(statement.sql, expectedRows: 1, origin: change)
  }

  mutating func add(
    _ message: DeleteMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    let id = message.relationID
    let old = message.old.tuple
    guard let (table, change) = try change(.delete, id, old, &plan) else { return }
    touch(table, id, buffer, old)
    if let fold, try fold.add(table, id, buffer, &plan, { $0.delete(old, buffer) }) { return }
    plan.take(table.detour)
    try plan.append { try appendKey(old, buffer, table, &$0) }
    plan.call(table.delete, expectedRows: 1, origin: change)
  }

  mutating func add(
    _ message: TruncateMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    var names: [RelationName] = []
    for id in message.relationIDs {
      // Relations are described before the TRUNCATE, so they are known here.
      guard let table = try table(id, columns: nil) else { continue }
      touchAll(table, id)
      names.append(table.name)
    }
    guard let first = message.relationIDs.first, !names.isEmpty else { return }
    try fold?.write(message.relationIDs, buffer, &plan)
    let change = count(.truncate, first, &plan)
    for statement in truncation(of: names) { plan.call(statement, expectedRows: nil, origin: change) }
  }

  /// ONLY: the list has everything that the source truncated; sequences are set at the cutover. It lacks
  /// partitioned and unlogged tables, and those still to be copied: the server does not truncate what such a
  /// table references without it, so those rows are deleted.
  private func truncation(of names: [RelationName]) -> [String] {
    let all = Set(names)
    let kept = names.filter { !(foreignKeys[$0] ?? []).isSubset(of: all) }
    let rest = names.filter { !kept.contains($0) }
    let truncate = "TRUNCATE \(rest.map { "ONLY \($0)" }.joined(separator: ", "))"
    return (rest.isEmpty ? [] : [truncate]) + kept.map { "DELETE FROM ONLY \($0)" }
  }

  private func appendKey(
    _ tuple: TupleData, _ buffer: UnsafeRawBufferPointer, _ table: StreamTable, _ batch: inout StatementBatch
  ) throws {
    switch table.lookup {
    case .index(let keys):
      // Keys are few and mostly the first columns, but an index may have them in another order than the
      // table.
      let values = Array(tuple.columns(in: buffer))
      for key in keys {
        guard values.indices.contains(key.position) else { throw table.incomplete }
        try batch.append(values[key.position], buffer, of: table)
      }
    case .wholeRow:
      for value in tuple.columns(in: buffer) { try batch.append(value, buffer, of: table) }
    case .none:
      throw MigrationError(
        .failed, doing: "applying a change to table \(table.name)",
        reason: "the source sent it without a replica identity",
        remedy: "Give the table a primary key or REPLICA IDENTITY FULL on the source, and start again.")
    }
  }
}
