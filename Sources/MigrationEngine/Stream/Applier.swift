import LibPQ
import Logging
import LogicalReplication

/// The target's position is not where this stream left it: an abandoned session, of this engine or an earlier
/// one, has committed after all. Nothing of the chunk was applied.
struct PositionMoved: Error {}

/// Applies chunks to the target: data and position in one commit (manual, chapter 50, on why that gives
/// exactly once).
struct Applier {
  private let sessions: LaneSessions
  private let monitor: StreamMonitor
  private let logger: Logger
  private let isStreaming: Bool
  private let format: ValueFormat
  private let direction: Direction
  private var planner: ChangePlanner
  /// Where the last transaction committed here was committed on the source.
  private(set) var anchorLSN = LSN.zero

  /// - Parameter isStreaming: whether transactions may arrive before they have committed.
  init(
    sessions: LaneSessions, tables: StreamTables, from start: StreamStart, isStreaming: Bool,
    monitor: StreamMonitor, logger: Logger
  ) {
    self.sessions = sessions
    self.monitor = monitor
    self.logger = logger
    self.isStreaming = isStreaming
    format = tables.form.format
    direction = tables.direction
    planner = ChangePlanner(
      tables: tables, from: start, streaming: isStreaming ? .on : .off,
      isBehindMarker: monitor.isBehindMarker, memory: monitor.touched,
      messages: tables.version < .two ? monitor.messages : nil)
  }

  /// Applies one piece of the stream. Transactions that end in it are committed together: nobody else reads
  /// the target, and one commit for many keeps up with many writers. A transaction that does not end in it
  /// stays open on the target.
  /// - Throws: `DefinitionDifference` when a table differs from the source's; earlier transactions are then
  ///   applied. `StreamingRefusal` or `BinaryRefusal` when the error may come from the way the changes were
  ///   sent. `OtherHistory` when the source is not the one followed so far.
  mutating func apply(_ piece: StreamPiece) async throws {
    guard monitor.beginApplying() else { return try observe(piece) }
    defer { monitor.endApplying() }
    do {
      try await applyOnce(piece)
    } catch let error
      where Self.isRefusal(error) || Self.isLockConflict(error) || error is DefinitionDifference
    {
      // With open transactions, errors need not be real: real ones occur again without them.
      if isStreaming {
        let isBeside = await sessions.hasStreamed
        guard !isBeside, piece.lane == .main, !Self.isLockConflict(error) else {
          throw StreamingRefusal(
            reason: error, until: Self.isLockConflict(error) ? monitor.feedback.receivedLSN : nil)
        }
      }
      guard !Self.isLockConflict(error) else { throw error }
      // As text, the error shows what is wrong with which row.
      guard format == .text || error is DefinitionDifference else { throw BinaryRefusal(reason: "\(error)") }
      throw error
    }
  }

  private mutating func applyOnce(_ piece: StreamPiece) async throws {
    let before = planner
    var plan: ChunkPlan
    do {
      plan = try planned(piece, folding: true)
    } catch let difference as DefinitionDifference where difference.wholeMessages > 0 {
      planner = before
      var whole = piece
      _ = whole.messages.split(at: difference.wholeMessages)
      try await applyOnce(whole)
      throw difference
    }
    monitor.received(upTo: plan.receivedLSN)
    do {
      try await execute(plan)
    } catch let error where plan.isFolded && Self.isRefusal(error) {
      // Folding changed the order, which may be the cause. A real error occurs again, with the change that
      // causes it.
      try await undo(plan)
      logger.info(
        "applying one by one the changes that the target refused together", metadata: ["because": "\(error)"])
      planner = before
      plan = try planned(piece, folding: false)
      try await execute(plan)
    } catch let error where Self.isLockConflict(error) {
      // Waits for another session's lock, such as from DDL on the target, unless it may be one of our own
      // lanes'.
      let isBeside = await sessions.hasStreamed
      guard plan.lane == .main, !isBeside else { throw error }
      try await undo(plan)
      planner = before
      return try await applyOnce(piece)
    }
    monitor.passing(passage(of: plan), marker: plan.commit?.marker)
    try await end(plan)
    if plan.changesAfterMarker > 0 { monitor.breached() }
    for origin in plan.replicationOrigins.sorted() where monitor.saw(origin: origin) {
      logger.warning(
        """
        changes come from elsewhere by replication, and a fence may not stop what writes them: no cutover \
        begins while they arrive
        """, metadata: ["origin": "\(origin)"])
    }
    monitor.finished(plan)
  }

  /// Only observes the changes: the end that they would go to is open, and may have other writes by now.
  private mutating func observe(_ piece: StreamPiece) throws {
    monitor.leftBehind(passage(of: try planned(piece, folding: true)))
  }

  private func passage(of plan: ChunkPlan) -> StreamMonitor.Passage {
    StreamMonitor.Passage(
      between: Set(plan.changedBetweenMarkers.ids.map(planner.name)),
      after: Set(plan.changedAfterMarker.ids.map(planner.name)), origins: plan.replicationOrigins)
  }

  private mutating func planned(_ piece: StreamPiece, folding: Bool) throws -> ChunkPlan {
    try piece.messages.bytes.withUnsafeBytes {
      try planner.plan($0, piece.messages.messages, in: piece.lane, folding: folding)
    }
  }

  /// Whether the target refuses what was applied. Not when it is in a temporary state.
  static func isRefusal(_ error: any Error) -> Bool {
    switch error {
    case let error as PostgresError: !error.isConnectionLoss && !error.mayPass
    case is MigrationError: true
    default: false
    }
  }

  /// The lock's holder is in the way, not the way the changes were combined.
  private static func isLockConflict(_ error: any Error) -> Bool {
    let state = (error as? PostgresError)?.sqlState
    return state == .lockNotAvailable || state == .deadlockDetected
  }

  // MARK: One plan

  private func execute(_ plan: ChunkPlan) async throws {
    guard plan.hasChanges || plan.commit != nil && plan.beginsTransaction else { return }
    let target = try await sessions.session(for: plan.lane)
    // Before any statement is prepared, which may fail as well: without the savepoint nothing could be
    // undone.
    var next = plan.beginsTransaction ? 0 : 1
    try await execute(plan, 0..<next, on: target)
    for copy in plan.copies {
      try await execute(plan, next..<copy.callsBefore, on: target)
      next = copy.callsBefore
      try await self.copy(copy, on: target)
    }
    try await execute(plan, next..<plan.batch.calls.count, on: target)
    if !plan.beginsTransaction, !plan.keepsSavepoint {
      try await target.query(
        "RELEASE SAVEPOINT \(ChunkPlan.savepoint)", doing: "keeping a part of a transaction")
    }
  }

  private func execute(_ plan: ChunkPlan, _ calls: Range<Int>, on target: Connection) async throws {
    guard !calls.isEmpty else { return }
    do {
      try await target.execute(plan.batch, calls, doing: "applying changes")
    } catch let failure as BatchFailure {
      throw error(failure, plan)
    }
  }

  private func copy(_ copy: ChunkPlan.CopyRows, on target: Connection) async throws {
    let action = "applying INSERTs"
    try await target.startCopyIn(copy.sql, doing: action)
    try await target.writeCopy(copy.bytes, doing: action)
    let rows = try await target.endCopy(doing: action)
    guard rows == copy.rowCount else { throw unequal(action, expected: copy.rowCount, affected: rows) }
  }

  private func undo(_ plan: ChunkPlan) async throws {
    try await sessions.session(for: plan.lane).query(
      plan.beginsTransaction ? "ROLLBACK" : "ROLLBACK TO SAVEPOINT \(ChunkPlan.savepoint)",
      doing: "undoing changes to apply them one by one")
  }

  /// Performs what the source said about the end of the transaction, or of a part of it.
  private mutating func end(_ plan: ChunkPlan) async throws {
    if let commit = plan.commit {
      try await self.commit(commit, on: try await sessions.session(for: plan.lane))
      monitor.committed(commit)
      anchorLSN = commit.anchor.commitLSN
      try await sessions.release(plan.lane)
    }
    switch plan.rollback {
    case .transaction:
      try await sessions.session(for: plan.lane).query(
        "ROLLBACK", doing: "rolling back a streamed transaction without changes to keep")
      try await sessions.release(plan.lane)
    case .to(let savepoint):
      try await sessions.session(for: plan.lane).query(
        "ROLLBACK TO SAVEPOINT \(savepoint); RELEASE SAVEPOINT \(savepoint)",
        doing: "rolling back a subtransaction that the source rolled back")
    case nil: break
    }
  }

  /// Only from where this stream left it: what an abandoned session commits late is not applied twice.
  private static let progress = """
    WITH moved AS (
      UPDATE replicate.progress SET applied_lsn = $1,
        transactions = transactions OPERATOR(pg_catalog.+) $2,
        changes = changes OPERATOR(pg_catalog.+) $3, marker = coalesce($4, marker), anchor_lsn = $6,
        anchor_xid = $7, anchor_time = $8
      WHERE applied_lsn OPERATOR(pg_catalog.=) $5
      RETURNING 1)
    SELECT 1 OPERATOR(pg_catalog./) pg_catalog.count(*) FROM moved
    """

  private func commit(_ point: ChunkPlan.CommitPoint, on target: Connection) async throws {
    var batch = StatementBatch()
    // After the marker comes the seal, which is final: what it relies on must be durable.
    if point.marker != nil { batch.call("SET LOCAL synchronous_commit = on", expectedRows: nil) }
    let isNoted = direction == .back
    if isNoted { batch.call(NotedRows.progress.lock, expectedRows: nil) }
    batch.append(point.endLSN.description)
    batch.append(String(point.transactions))
    batch.append(String(point.changes))
    if let marker = point.marker { batch.append(marker) } else { batch.appendNull() }
    batch.append(monitor.feedback.appliedLSN.description)
    batch.append(point.anchor.commitLSN.description)
    batch.append(String(point.anchor.xid))
    batch.append(String(point.anchor.commitTime.microseconds))
    batch.call(isNoted ? NotedRows.movedProgress : Self.progress, expectedRows: 1)
    batch.call("COMMIT", expectedRows: nil)
    do {
      try await target.execute(batch, doing: "committing changes up to \(point.endLSN)")
    } catch let failure as BatchFailure {
      guard case .refused(let error) = failure.reason else { throw failure }
      guard error.sqlState == .divisionByZero else { throw error }
      throw PositionMoved()
    }
  }

  // MARK: Errors

  private func error(_ failure: BatchFailure, _ plan: ChunkPlan) -> any Error {
    var action = "applying changes"
    if plan.origins.indices.contains(failure.call), let change = plan.origins[failure.call] {
      let parameters = plan.batch.texts(of: plan.batch.calls[failure.call])
      action =
        "applying \(change.kind.rawValue) to table \(planner.name(of: change.relationID))"
        + (planner.key(of: change, in: parameters).map { ", \($0)" } ?? "")
        + " (source transaction \(change.xid))"
    }
    return switch failure.reason {
    case .refused(let error): error.during(action)
    case .rows(let expected, let affected): unequal(action, expected: expected, affected: affected)
    }
  }

  private func unequal(_ action: String, expected: Int, affected: Int) -> MigrationError {
    MigrationError(
      .failed, doing: action,
      reason: "it touched \(affected) rows of the \(direction.to) instead of \(expected)",
      remedy: """
        Nothing of this transaction was applied. The \(direction.to) lacks the rows that the \
        \(direction.from) had, or hides or refuses them. Look for: anything that wrote there (by hand, as a \
        superuser, or with session_replication_role = replica); triggers and rules that are ENABLE ALWAYS or \
        REPLICA, and policies of row security, which change or hide rows (\\d of the table there); columns \
        whose type, modifier or collation differ, so that keys differ there (\\d on both ends). \
        Fix it, restore the rows as the \(direction.from) had them before, and run replicate start. If \
        that is impossible: \(direction.startOver)
        """)
  }
}

extension Direction {
  /// What is left to do when the stream cannot go on.
  var startOver: String {
    self == .forward
      ? "Abort this migration (replicate abort --drop-target-data) and begin a new one."
      : "No rollback is possible any more: run replicate finish."
  }
}
