import LibPQ
import LogicalReplication

/// What the stream must know about the tables before the first change.
struct StreamTables: Sendable {
  /// The target's tables.
  var target: [RelationName: TargetTable]
  /// The LSN from which a table's changes apply, by the source's OID.
  var snapshots: [UInt32: (name: RelationName, lsn: LSN)]
  /// OIDs whose changes are ignored: excluded tables, and partitioned ones, whose leaves have the rows.
  var ignored: Set<UInt32>
  /// OIDs of all tables that the source has.
  var present: Set<UInt32>
  /// Where in the stream the source's tables were read: for transactions committed before, the later
  /// definitions are known. All that comes is before it until the message has come that was written then.
  var sourceLSN: LSN
  /// That message's content.
  var catalogMark = ""
  /// Which of the target's tables reference a table by foreign keys.
  var foreignKeys: [RelationName: Set<RelationName>] = [:]
  /// Settings under which the target evaluates users' expressions.
  var settings = UserSettings()
  /// The format of the rows.
  var form = StreamForm.text
  /// What the source's pgoutput speaks.
  var version = PgOutputVersion.two
  /// Which way they go: what the ends are called.
  var direction = Direction.forward

  /// A transaction that commits at or after it is in no table's copy.
  var newestSnapshotLSN: LSN { snapshots.values.lazy.map(\.lsn).max() ?? .zero }

  init(
    target: [RelationName: TargetTable], snapshots: [UInt32: (name: RelationName, lsn: LSN)],
    ignored: Set<UInt32>, present: Set<UInt32>, sourceLSN: LSN
  ) {
    self.target = target
    self.snapshots = snapshots
    self.ignored = ignored
    self.present = present
    self.sourceLSN = sourceLSN
  }
}

/// A transaction of the source that is in progress in the stream.
struct SourceTransaction {
  var xid: UInt32
  /// Where it committed; nil for one streamed before that.
  var finalLSN: LSN?
  /// Its commit, once that is known.
  var anchor: StreamAnchor?
  /// Whether it is already on the target.
  var isPassed = false
  var changes: Int64 = 0
  var marker: String?
  /// Whether it contains a logical message.
  var hasMessage = false
  /// The replication origin it came from; nil when it started on the source.
  var origin: String?

  // For a streamed one, which has its own lane:

  /// Whether the lane's transaction has begun.
  var isBegun = false
  /// Relations as described in it: it may have changed them, and may be rolled back.
  var known: [UInt32: StreamTable?] = [:]
  var subtransactions = Subtransactions()
  /// The newest snapshot of the tables that it changed: it must commit at or after it.
  var snapshotLSN = LSN.zero
  /// The epoch of the changed rows when it began.
  var touchEpoch = 0
}

/// Turns the messages of a stream into statements. Pure: chunks in, plans out; one planner for one
/// START_REPLICATION. A copy of it plans the same chunk again.
struct ChangePlanner {
  private var tables: StreamTables
  private var decoder: PgOutputDecoder
  /// By the relation's OID on the source; nil for those that are ignored.
  var known: [UInt32: StreamTable?] = [:]
  /// What transactions that are on the target already, or in a table's copy, said of their relations, which
  /// may be long past: they are looked at when a change is to be applied.
  private var passed: [UInt32: RelationMessage] = [:]
  /// The transaction that is under way.
  var open: SourceTransaction?
  /// Those that wait for their next block, by their xids.
  var streamed: [UInt32: SourceTransaction] = [:]
  private(set) var hasSeenMarker: Bool
  /// The end of the last transaction that came whole; those behind it committed later.
  private var lastEndLSN: LSN
  /// What committed before is on the target.
  let appliedLSN: LSN
  /// The transaction that must come first; nil once it has, or when the slot has proven the source.
  var expected: StreamAnchor?
  /// Where the last transaction committed that is on the target.
  private(set) var anchorLSN: LSN
  let newestSnapshotLSN: LSN
  /// The main lane's transaction has been begun by an earlier plan.
  private var isBegun = false
  /// Where changes are folded; nil while they are applied one by one.
  private(set) var fold: ChunkFold?
  private let chunkFold = ChunkFold()
  private let memory: ChangedRowTracker?
  private let messages: SentMessages?
  /// The memory's when the chunk began; zero while nothing is to be remembered.
  private(set) var touchEpoch = 0

  /// - Parameters:
  ///   - streaming: whether transactions may arrive before they have committed. One that turns out to be in a
  ///     table's copy is refused at its end.
  ///   - isBehindMarker: the target has the marker that a cutover waits for.
  ///   - memory: is told which rows are touched.
  ///   - messages: ours, of a source that does not send them as such.
  init(
    tables: StreamTables, from start: StreamStart = .origin, streaming: PgOutputStreaming = .off,
    isBehindMarker: Bool = false, memory: ChangedRowTracker? = nil, messages: SentMessages? = nil
  ) {
    self.tables = tables
    lastEndLSN = start.position
    appliedLSN = start.appliedLSN
    expected = start.expectsAnchor ? start.anchor : nil
    anchorLSN = start.anchor?.commitLSN ?? .zero
    newestSnapshotLSN = tables.newestSnapshotLSN
    hasSeenMarker = isBehindMarker
    self.memory = memory
    self.messages = messages
    decoder = PgOutputDecoder(version: tables.version, streaming: streaming)
  }

  var foreignKeys: [RelationName: Set<RelationName>] { tables.foreignKeys }
  var direction: Direction { tables.direction }

  /// Whether the next message belongs to a transaction that began in an earlier chunk.
  var isInTransaction: Bool { open != nil }

  /// - Parameters:
  ///   - messages: whole transactions, or a part of one; all of one lane.
  ///   - folding: whether the changes of a row may become one, and those of many rows one statement. If not,
  ///     each change is a statement, in the source's order.
  mutating func plan(
    _ buffer: UnsafeRawBufferPointer, _ messages: [Range<Int>], in lane: Lane = .main, folding: Bool
  ) throws -> ChunkPlan {
    var plan = ChunkPlan(lane: lane, beginsTransaction: !isBegun(lane))
    fold = folding ? chunkFold : nil
    touchEpoch = memory?.epoch ?? 0
    defer { chunkFold.clear() }
    var whole = 0
    for (index, message) in messages.enumerated() {
      if open == nil { whole = index }
      switch try ReplicationFrame(buffer, message) {
      case .primaryKeepalive(let keepalive):
        try prove(upTo: keepalive.serverLSN)
        plan.receivedLSN = max(plan.receivedLSN, keepalive.serverLSN)
        // Inside a transaction it shows only how far the server has read.
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
    plan.take(nil)
    guard plan.commit == nil || (open?.changes ?? 0) == 0 else {
      throw unexpected("a part of a transaction after a whole one")
    }
    if plan.hasChanges || plan.commit != nil { note(lane, isBegun: plan.commit == nil) }
    return plan
  }

  private func isBegun(_ lane: Lane) -> Bool {
    switch lane {
    case .main: isBegun
    case .streamed(let xid): (open ?? streamed[xid])?.isBegun ?? false
    }
  }

  private mutating func note(_ lane: Lane, isBegun: Bool) {
    switch lane {
    case .main: self.isBegun = isBegun
    case .streamed where open != nil: open?.isBegun = isBegun
    case .streamed(let xid): streamed[xid]?.isBegun = isBegun
    }
  }

  private mutating func handle(
    _ message: PgOutputMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) throws {
    switch message {
    case .begin(let begin):
      guard open == nil else { throw unexpected("BEGIN inside a transaction") }
      guard plan.lane == .main else { throw unexpected("BEGIN in a streamed transaction") }
      let anchor = StreamAnchor(begin)
      try prove(anchor)
      open = SourceTransaction(
        xid: begin.xid, finalLSN: begin.finalLSN, anchor: anchor, isPassed: begin.finalLSN < appliedLSN)
      if let message = messages?.message(of: begin.xid) {
        open?.hasMessage = true
        note(message.prefix, message.content, at: begin.finalLSN, &plan)
      }
    case .commit(let commit): try finish(commit, &plan)
    case .relation(let relation): try describe(relation)
    case .insert(let insert):
      try enter(insert.xid, buffer, &plan)
      try add(insert, buffer, &plan)
    case .update(let update):
      try enter(update.xid, buffer, &plan)
      try add(update, buffer, &plan)
    case .delete(let delete):
      try enter(delete.xid, buffer, &plan)
      try add(delete, buffer, &plan)
    case .truncate(let truncate):
      try enter(truncate.xid, buffer, &plan)
      try add(truncate, buffer, &plan)
    case .logicalMessage(let message): note(message, buffer, &plan)
    case .origin(let origin): open?.origin = origin.name
    // A type's name does not matter to its values.
    case .type: break
    case .streamStart(let start): try resume(start, plan)
    case .streamStop: try suspend()
    case .streamCommit(let commit): try finish(commit, &plan)
    case .streamAbort(let abort): try undo(abort, &plan)
    }
  }

  private mutating func finish(_ commit: CommitMessage, _ plan: inout ChunkPlan) throws {
    guard let transaction = open, let anchor = transaction.anchor, anchor.commitLSN == commit.commitLSN else {
      throw unexpected("COMMIT of another transaction")
    }
    open = nil
    try advance(to: commit.commitLSN, commit.endLSN)
    conclude(transaction, anchor, upTo: commit.endLSN, &plan)
  }

  /// The source sends transactions in commit order. One that it sent again would be applied twice.
  mutating func advance(to commitLSN: LSN, _ endLSN: LSN) throws {
    guard commitLSN >= lastEndLSN, endLSN > commitLSN else {
      throw unexpected("a transaction that committed at \(commitLSN), after one that ended at \(lastEndLSN)")
    }
    lastEndLSN = endLSN
  }

  mutating func conclude(
    _ transaction: SourceTransaction, _ anchor: StreamAnchor, upTo endLSN: LSN, _ plan: inout ChunkPlan
  ) {
    plan.receivedLSN = max(plan.receivedLSN, endLSN)
    if transaction.changes > 0, !transaction.isPassed, let origin = transaction.origin {
      plan.replicationOrigins.insert(origin)
    }
    guard isApplied(transaction, anchor) else {
      // Only a streamed one can have begun here: nothing of it is kept.
      if transaction.isBegun { plan.rollback = .transaction }
      plan.idleLSN = max(plan.idleLSN, endLSN)
      return
    }
    anchorLSN = anchor.commitLSN
    let isChange = transaction.changes > 0 || transaction.marker != nil
    plan.commit = ChunkPlan.CommitPoint(
      endLSN: endLSN, anchor: anchor, transactions: (plan.commit?.transactions ?? 0) + (isChange ? 1 : 0),
      changes: (plan.commit?.changes ?? 0) + transaction.changes,
      marker: transaction.marker ?? plan.commit?.marker)
    if transaction.finalLSN == nil, transaction.changes > 0, hasSeenMarker {
      plan.changesAfterMarker += Int(transaction.changes)
      for (id, table) in transaction.known where table != nil { plan.changedAfterMarker.insert(id) }
    }
    if transaction.marker != nil {
      hasSeenMarker = true
      plan.changesAfterMarker = 0
      plan.changedBetweenMarkers.take(&plan.changedAfterMarker)
    }
  }

  private mutating func note(
    _ message: LogicalMessage, _ buffer: UnsafeRawBufferPointer, _ plan: inout ChunkPlan
  ) {
    let content = UnsafeRawBufferPointer(rebasing: buffer[message.content])
    // In a streamed transaction it may still be rolled back with a subtransaction.
    if message.isTransactional, open?.anchor != nil { open?.hasMessage = true }
    guard message.isTransactional || MessagePrefix.meantAlone.contains(message.prefix) else { return }
    note(message.prefix, String(decoding: content, as: UTF8.self), at: message.lsn, &plan)
  }

  private mutating func note(_ prefix: String, _ content: String, at lsn: LSN, _ plan: inout ChunkPlan) {
    switch prefix {
    case MessagePrefix.heartbeat:
      if let beat = UInt64(content) { plan.heartbeats.append(ChunkPlan.Heartbeat(number: beat, lsn: lsn)) }
    case MessagePrefix.catalog: if content == tables.catalogMark { tables.sourceLSN = lsn }
    case MessagePrefix.fence: open?.marker = content
    // Messages of others are for others.
    default: break
    }
  }

  // MARK: Relations

  private mutating func describe(_ relation: RelationMessage) throws {
    guard let open else { throw unexpected("a relation outside of a transaction") }
    guard !open.isPassed, !isInCopy(open, of: relation.relationID) else {
      known[relation.relationID] = nil
      passed[relation.relationID] = relation
      return
    }
    // Only an uncommitted transaction itself knows what it did to its tables.
    let lsn = open.finalLSN ?? LSN(rawValue: .max)
    do {
      let table = try Self.table(of: relation, at: lsn, in: tables)
      if open.finalLSN == nil {
        self.open?.known[relation.relationID] = .some(table)
      } else {
        known[relation.relationID] = .some(table)
      }
    } catch var difference as DefinitionDifference {
      difference.message = relation
      difference.lsn = lsn
      throw difference
    }
  }

  private func isInCopy(_ transaction: SourceTransaction, of id: UInt32) -> Bool {
    guard let lsn = transaction.finalLSN, let snapshot = tables.snapshots[id]?.lsn else { return false }
    return lsn < snapshot
  }

  /// - Throws: `DefinitionDifference` when the ends do not match.
  /// - Parameter lsn: where the transaction that saw this definition committed.
  static func table(
    of message: RelationMessage, at lsn: LSN, in tables: StreamTables
  ) throws -> StreamTable? {
    if tables.ignored.contains(message.relationID) { return nil }
    let name = RelationName(schema: message.schema, name: message.name)
    // Its rows were dropped with it.
    let isDropped = lsn < tables.sourceLSN && !tables.present.contains(message.relationID)
    guard let copied = tables.snapshots[message.relationID] else {
      // A table to be copied is copied with these changes, on a newer snapshot.
      if isDropped || tables.direction == .forward { return nil }
      throw DefinitionDifference(
        error: MigrationError(
          .failed, doing: "following the source's tables",
          reason: "table \(name) is not part of this migration: it was created after the copy"),
        isNewTable: true)
    }
    if isDropped, tables.target[copied.name] == nil { return nil }
    guard var target = tables.target[copied.name] else {
      throw RelationMatch.different(
        copied.name, tables.direction, "the \(tables.direction.to) has no such table",
        "restore its name, or its rows are lost.")
    }
    target.direction = tables.direction
    if lsn >= tables.sourceLSN { (target.source, target.difference) = (nil, nil) }
    do {
      guard copied.name == name || target.source?.name == copied.name else {
        throw RelationMatch.different(
          copied.name, tables.direction, "it is \(name) on the \(tables.direction.from)",
          ColumnRemedy.rename(target.relation, to: name, isTaken: tables.target[name] != nil))
      }
      return try StreamTable(
        message, target: target, snapshotLSN: copied.lsn, form: tables.form,
        detour: tables.settings.detour(to: target.relation.owner))
    } catch let difference as DefinitionDifference {
      throw explained(difference, target)
    }
  }

  /// The catalogs of both ends show what is to be done, or that there is nothing to do.
  private static func explained(
    _ difference: DefinitionDifference, _ target: TargetTable
  ) -> DefinitionDifference {
    if let known = target.difference {
      return RelationMatch.different(target.relation.name, target.direction, known.reason, known.remedy)
    }
    var difference = difference
    difference.isOutdated =
      target.source != nil && target.direction == .forward && difference.isOfColumns
    return difference
  }

  /// The table of a change of the open transaction; nil when the change is not to be applied.
  mutating func table(_ id: UInt32, columns: Int?) throws -> StreamTable? {
    guard let open else { throw unexpected("a change outside of a transaction") }
    guard !open.isPassed, !isInCopy(open, of: id) else { return nil }
    var entry = open.known[id] ?? known[id]
    if entry == nil, let relation = passed[id] {
      try describe(relation)
      entry = self.open?.known[id] ?? known[id]
    }
    guard let entry else { throw unexpected("a change of a relation that was not described") }
    guard let table = entry else { return nil }
    if let columns, columns != table.columnCount {
      throw unexpected("a row of \(columns) columns for table \(table.name), which has \(table.columnCount)")
    }
    guard let finalLSN = open.finalLSN else {
      self.open?.snapshotLSN = max(open.snapshotLSN, table.snapshotLSN)
      return table
    }
    return finalLSN >= table.snapshotLSN ? table : nil
  }

  /// The table to apply a change to; counts the change.
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
    // Those of a streamed transaction are counted when it commits.
    if hasSeenMarker, open?.finalLSN != nil {
      plan.changesAfterMarker += 1
      plan.changedAfterMarker.insert(id)
    }
    return ChunkPlan.Change(kind: kind, relationID: id, xid: open?.xid ?? 0)
  }

  /// Records that the rows with these keys were changed.
  func touch(
    _ table: StreamTable, _ id: UInt32, _ buffer: UnsafeRawBufferPointer, _ tuples: TupleData?...
  ) {
    guard touchEpoch > 0, let memory else { return }
    guard let positions = table.keyPositions else { return memory.noteAll(table, id) }
    for case let tuple? in tuples {
      memory.note(table, id, key: TouchedKey(tuple, at: positions, in: buffer))
    }
  }

  func touchAll(_ table: StreamTable, _ id: UInt32) { if touchEpoch > 0 { memory?.noteAll(table, id) } }

  /// Records what a streamed transaction did before recording began.
  func touchStreamed(_ transaction: SourceTransaction) {
    memory?.noteStreamed(since: transaction.touchEpoch, transaction.known)
  }

  /// The name, for people, of a relation in a change.
  func name(of id: UInt32) -> String {
    (known[id] ?? nil)?.name.description ?? tables.snapshots[id]?.name.description ?? "with OID \(id)"
  }

  /// The key of the row of an UPDATE or DELETE: the last parameters of its statement.
  func key(of change: ChunkPlan.Change, in parameters: [String?]) -> String? {
    guard change.kind == .update || change.kind == .delete, let table = known[change.relationID] ?? nil,
      case .index(let keys) = table.lookup, table.format == .text
    else { return nil }
    let columns = keys.map { SQL.identifier(table.columns[$0.position].name) }
    let values = parameters.suffix(keys.count).map { String(($0 ?? "NULL").prefix(100)) }
    return "key (\(columns.joined(separator: ", "))) = (\(values.joined(separator: ", ")))"
  }

  func unexpected(_ what: String) -> MigrationError {
    MigrationError(
      .failed, doing: "reading the stream", reason: "the source sent \(what)",
      remedy: "This is a fault in replicate or in the server; nothing wrong was applied. Start again.")
  }
}
