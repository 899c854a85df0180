import LibPQ
package import LogicalReplication

/// What the stream must know of the tables before the first change.
package struct StreamTables: Sendable {
  /// The target's tables.
  package var target: [RelationName: TargetTable]
  /// The LSN from which on a table's changes apply, by the source's OID.
  package var snapshots: [UInt32: (name: RelationName, lsn: LSN)]
  /// OIDs whose changes are not ours: excluded tables, and partitioned ones, whose leaves have the rows.
  package var ignored: Set<UInt32>
  /// Where the source stood when its tables were read: of transactions that committed before, it is known
  /// what became of the definitions that they saw.
  package var sourceLSN: LSN
  /// How the rows come.
  var form = StreamForm.text

  package init(
    target: [RelationName: TargetTable], snapshots: [UInt32: (name: RelationName, lsn: LSN)],
    ignored: Set<UInt32>, sourceLSN: LSN
  ) {
    self.target = target
    self.snapshots = snapshots
    self.ignored = ignored
    self.sourceLSN = sourceLSN
  }
}

/// Turns the messages of a stream into statements. Pure: chunks in, plans out; one planner for one
/// START_REPLICATION. A copy of it plans the same chunk again.
struct ChangePlanner {
  private let tables: StreamTables
  private var decoder = PgOutputDecoder(version: .one, streaming: .off)
  /// By the relation's OID on the source; nil for those that are not ours.
  private var known: [UInt32: StreamTable?] = [:]
  /// The transaction that is under way.
  private var open: OpenTransaction?
  private var hasSeenMarker = false
  /// The target's transaction has been begun by an earlier plan.
  private var isBegun = false
  /// Where changes are folded; nil while they are applied one by one.
  private(set) var fold: ChunkFold?
  private let chunkFold = ChunkFold()

  private struct OpenTransaction {
    var finalLSN: LSN
    var xid: UInt32
    var changes: Int64 = 0
    var marker: String?
  }

  init(tables: StreamTables) { self.tables = tables }

  /// Whether the next message belongs to a transaction that began in an earlier chunk.
  var isInTransaction: Bool { open != nil }

  /// - Parameters:
  ///   - messages: of whole transactions, or a part of one.
  ///   - folding: whether the changes of a row may become one, and those of many rows one statement. If not,
  ///     each is a statement, in the source's order.
  mutating func plan(
    _ buffer: UnsafeRawBufferPointer, _ messages: [Range<Int>], folding: Bool
  ) throws -> ChunkPlan {
    var plan = ChunkPlan(beginsTransaction: !isBegun)
    fold = folding ? chunkFold : nil
    defer { chunkFold.clear() }
    var whole = 0
    for (index, message) in messages.enumerated() {
      if open == nil { whole = index }
      switch try ReplicationFrame(buffer, message) {
      case .primaryKeepalive(let keepalive):
        plan.receivedLSN = max(plan.receivedLSN, keepalive.serverLSN)
        // Inside a transaction it says only how far the server has read.
        if open == nil { plan.idleLSN = max(plan.idleLSN, keepalive.serverLSN) }
      case .xLogData(let data):
        plan.receivedLSN = max(plan.receivedLSN, data.startLSN)
        do {
          try handle(try decoder.decode(buffer, data.payload), buffer, &plan)
        } catch var difference as DefinitionDifference {
          difference.wholeMessages = whole
          throw difference
        }
      }
    }
    try fold?.writeAll(buffer, &plan)
    guard plan.commit == nil || (open?.changes ?? 0) == 0 else {
      throw unexpected("a part of a transaction behind a whole one")
    }
    isBegun = plan.commit == nil && (isBegun || plan.hasChanges)
    return plan
  }

  private mutating func handle(
    _ message: PgOutputMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    switch message {
    case .begin(let begin):
      guard open == nil else { throw unexpected("BEGIN inside a transaction") }
      open = OpenTransaction(finalLSN: begin.finalLSN, xid: begin.xid)
    case .commit(let commit): try finish(commit, &plan)
    case .relation(let relation):
      do {
        guard let open else { throw unexpected("a relation outside of a transaction") }
        known[relation.relationID] = try Self.table(of: relation, at: open.finalLSN, in: tables)
      } catch var difference as DefinitionDifference {
        difference.message = relation
        difference.lsn = open?.finalLSN ?? .zero
        throw difference
      }
    case .insert(let insert): try add(insert, buffer, &plan)
    case .update(let update): try add(update, buffer, &plan)
    case .delete(let delete): try add(delete, buffer, &plan)
    case .truncate(let truncate): try add(truncate, buffer, &plan)
    case .logicalMessage(let message): note(message, buffer, &plan)
    // Where a transaction first came from, and what a type is called, do not matter to its values.
    case .origin, .type: break
    case .streamStart, .streamStop, .streamCommit, .streamAbort, .streamPrepare, .beginPrepare, .prepare,
      .commitPrepared, .rollbackPrepared:
      throw unexpected("a message that was not asked for")
    }
  }

  private mutating func finish(_ commit: CommitMessage, _ plan: inout ChunkPlan) throws {
    guard let transaction = open, transaction.finalLSN == commit.commitLSN else {
      throw unexpected("COMMIT of another transaction")
    }
    open = nil
    plan.receivedLSN = max(plan.receivedLSN, commit.endLSN)
    guard transaction.changes > 0 || transaction.marker != nil else {
      plan.idleLSN = max(plan.idleLSN, commit.endLSN)
      return
    }
    plan.commit = ChunkPlan.CommitPoint(
      endLSN: commit.endLSN, transactions: (plan.commit?.transactions ?? 0) + 1,
      changes: (plan.commit?.changes ?? 0) + transaction.changes,
      marker: transaction.marker ?? plan.commit?.marker)
    if transaction.marker != nil {
      hasSeenMarker = true
      plan.changesAfterMarker = 0
    }
  }

  private mutating func note(
    _ message: LogicalMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) {
    let content = UnsafeRawBufferPointer(rebasing: buffer[message.content])
    switch message.prefix {
    case MessagePrefix.heartbeat:
      if let beat = UInt64(String(decoding: content, as: UTF8.self)) { plan.heartbeats.append(beat) }
    case MessagePrefix.fence where message.isTransactional:
      open?.marker = String(decoding: content, as: UTF8.self)
    // Messages of others are for others.
    default: break
    }
  }

  // MARK: Relations

  /// - Throws: `DefinitionDifference` when the ends do not fit together.
  /// - Parameter lsn: where the transaction committed that saw the table so.
  static func table(
    of message: RelationMessage, at lsn: LSN, in tables: StreamTables
  ) throws -> StreamTable? {
    if tables.ignored.contains(message.relationID) { return nil }
    let name = RelationName(schema: message.schema, name: message.name)
    guard let copied = tables.snapshots[message.relationID] else {
      throw MigrationError(
        .failed, doing: "following the source's tables",
        reason: "table \(name) is not part of this migration: it was created after the copy",
        remedy: "Drop it on the source, or abort this migration and begin a new one.")
    }
    var target = tables.target[copied.name]
    if lsn >= tables.sourceLSN { target?.source = nil }
    guard copied.name == name || target?.source?.name == copied.name else {
      throw RelationMatch.different(
        copied.name, "it is \(name) on the source",
        copied.name.schema == name.schema
          ? "ALTER TABLE \(copied.name) RENAME TO \(SQL.identifier(name.name));"
          : "move and rename it with ALTER TABLE … SET SCHEMA and RENAME.")
    }
    guard let target else {
      throw RelationMatch.different(
        copied.name, "the target has no such table", "give it back its name, or its rows are lost.")
    }
    return try StreamTable(message, target: target, snapshotLSN: copied.lsn, form: tables.form)
  }

  /// The table that a change of the open transaction belongs to; nil when the change is not to be applied.
  func table(_ id: UInt32, columns: Int?) throws -> StreamTable? {
    guard let open else { throw unexpected("a change outside of a transaction") }
    guard let entry = known[id] else { throw unexpected("a change of a relation that was not described") }
    guard let table = entry else { return nil }
    if let columns, columns != table.columnCount {
      throw unexpected("a row of \(columns) columns for table \(table.name), which has \(table.columnCount)")
    }
    return open.finalLSN >= table.snapshotLSN ? table : nil
  }

  /// The table that a change is to be applied to, with the change counted.
  mutating func change(
    _ kind: ChunkPlan.Change.Kind, _ id: UInt32, _ tuple: TupleData, _ plan: inout ChunkPlan
  ) throws -> (StreamTable, ChunkPlan.Change)? {
    guard let table = try table(id, columns: tuple.columnCount) else { return nil }
    return (table, count(kind, id, &plan))
  }

  mutating func count(
    _ kind: ChunkPlan.Change.Kind, _ id: UInt32, _ plan: inout ChunkPlan
  ) -> ChunkPlan.Change {
    open?.changes += 1
    if hasSeenMarker { plan.changesAfterMarker += 1 }
    return ChunkPlan.Change(kind: kind, relationID: id, xid: open?.xid ?? 0)
  }

  /// How people call a relation that a change named.
  func name(of id: UInt32) -> String {
    (known[id] ?? nil)?.name.description ?? tables.snapshots[id]?.name.description ?? "with OID \(id)"
  }

  /// The key of the row that an UPDATE or DELETE is about: the last parameters of its statement.
  func key(of change: ChunkPlan.Change, in parameters: [String?]) -> String? {
    guard change.kind == .update || change.kind == .delete, let table = known[change.relationID] ?? nil,
      case .index(let keys) = table.lookup, table.format == .text
    else { return nil }
    let columns = keys.map { SQL.identifier(table.columns[$0.position].name) }
    let values = parameters.suffix(keys.count).map { String(($0 ?? "NULL").prefix(100)) }
    return "key (\(columns.joined(separator: ", "))) = (\(values.joined(separator: ", ")))"
  }

  private func unexpected(_ what: String) -> MigrationError {
    MigrationError(
      .failed, doing: "reading the stream", reason: "the source sent \(what)",
      remedy: "This is a fault in replicate or in the server; nothing wrong was applied. Start again.")
  }
}
