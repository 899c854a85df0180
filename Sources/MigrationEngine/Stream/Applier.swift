import LibPQ
import Logging
import LogicalReplication

/// Applies chunks to the target: data and position in one commit (manual, chapter 50, on why that gives
/// exactly once).
struct Applier {
  private let target: Connection
  private let monitor: StreamMonitor
  private let logger: Logger
  private var planner: ChangePlanner

  /// - Parameter target: for this alone; its settings are changed.
  init(
    target: Connection, tables: StreamTables, monitor: StreamMonitor, logger: Logger
  ) async throws {
    try await target.query(Self.settings, doing: "preparing the session that applies changes")
    self.target = target
    self.monitor = monitor
    self.logger = logger
    planner = ChangePlanner(tables: tables)
  }

  private static let settings = """
    -- No trigger or rule of the user's fires.
    SET session_replication_role = replica;
    -- What is confirmed to the source waits for a later commit that is flushed.
    SET synchronous_commit = off;
    -- Rows are looked up by their keys, whatever the statistics say.
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off;
    SET jit = off;
    -- The rows of a chunk stay in memory on their way into the join.
    SET work_mem = '64MB'
    """

  /// Applies one chunk. Transactions that end in it are committed together: nobody else reads the target, and
  /// one commit for many is what keeps up with many writers. One that does not end stays open on the target.
  /// - Throws: `DefinitionDifference` when a table is not what it is on the source; the transactions before
  ///   are applied then.
  mutating func apply(_ chunk: CopyMessages) async throws {
    let before = planner
    var plan: ChunkPlan
    do {
      plan = try planned(chunk, folding: true)
    } catch let difference as DefinitionDifference where difference.wholeMessages > 0 {
      planner = before
      var whole = chunk
      _ = whole.split(at: difference.wholeMessages)
      try await apply(whole)
      throw difference
    }
    monitor.received(upTo: plan.receivedLSN)
    do {
      try await run(plan)
    } catch let error where plan.isFolded && Self.isRefusal(error) {
      // The order that folding gave up may be what the server misses. Whatever is really wrong comes again,
      // with the change that it is about.
      try await undo(plan)
      logger.info(
        "applying changes one by one that the target refused together", metadata: ["because": "\(error)"])
      planner = before
      plan = try planned(chunk, folding: false)
      try await run(plan)
    }
    if let commit = plan.commit {
      try await self.commit(commit)
      monitor.committed(commit)
    }
    if plan.changesAfterMarker > 0 { monitor.breached() }
    monitor.finished(plan)
  }

  private mutating func planned(_ chunk: CopyMessages, folding: Bool) throws -> ChunkPlan {
    try chunk.bytes.withUnsafeBytes { try planner.plan($0, chunk.messages, folding: folding) }
  }

  static func isRefusal(_ error: any Error) -> Bool {
    switch error {
    case let error as PostgresError: !error.isConnectionLoss
    case is MigrationError: true
    default: false
    }
  }

  // MARK: One plan

  private func run(_ plan: ChunkPlan) async throws {
    guard plan.hasChanges || plan.commit != nil && plan.beginsTransaction else { return }
    var next = 0
    for copy in plan.copies {
      try await run(plan, next..<copy.callsBefore)
      next = copy.callsBefore
      try await self.copy(copy)
    }
    try await run(plan, next..<plan.batch.calls.count)
    if !plan.beginsTransaction {
      try await target.query(
        "RELEASE SAVEPOINT \(ChunkPlan.savepoint)", doing: "keeping a part of a transaction")
    }
  }

  private func run(_ plan: ChunkPlan, _ calls: Range<Int>) async throws {
    guard !calls.isEmpty else { return }
    do {
      try await target.run(plan.batch, calls, doing: "applying changes")
    } catch let failure as BatchFailure {
      throw error(failure, plan)
    }
  }

  private func copy(_ copy: ChunkPlan.CopyRows) async throws {
    let action = "applying INSERTs"
    try await target.startCopyIn(copy.sql, doing: action)
    try await target.writeCopy(copy.bytes, doing: action)
    let rows = try await target.endCopy(doing: action)
    guard rows == copy.rowCount else { throw unequal(action, expected: copy.rowCount, affected: rows) }
  }

  private func undo(_ plan: ChunkPlan) async throws {
    try await target.query(
      plan.beginsTransaction ? "ROLLBACK" : "ROLLBACK TO SAVEPOINT \(ChunkPlan.savepoint)",
      doing: "undoing changes to apply them one by one")
  }

  private static let progress = """
    WITH moved AS (
      UPDATE replicate.progress SET applied_lsn = $1, transactions = transactions + $2,
        changes = changes + $3, marker = coalesce($4, marker)
      RETURNING 1)
    SELECT 1 / pg_catalog.count(*) FROM moved
    """

  private func commit(_ point: ChunkPlan.CommitPoint) async throws {
    var batch = StatementBatch()
    // Behind the marker comes the seal, which is for good: what it rests on must be durable.
    if point.marker != nil { batch.call("SET LOCAL synchronous_commit = on", expectedRows: nil) }
    batch.append(point.endLSN.description)
    batch.append(String(point.transactions))
    batch.append(String(point.changes))
    if let marker = point.marker { batch.append(marker) } else { batch.appendNull() }
    batch.call(Self.progress, expectedRows: 1)
    batch.call("COMMIT", expectedRows: nil)
    do {
      try await target.run(batch, doing: "committing changes up to \(point.endLSN)")
    } catch let failure as BatchFailure {
      guard case .refused(let error) = failure.reason else { throw failure }
      guard error.sqlState == .divisionByZero else { throw error }
      throw MigrationError(
        .failed, doing: "storing the applied LSN", reason: "replicate.progress has lost its row",
        remedy: "Somebody changed schema replicate of the target. Abort this migration and begin a new one.")
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
      .failed, doing: action, reason: "it touched \(affected) rows of the target instead of \(expected)",
      remedy: """
        The target is not what the source was: somebody else wrote to it. Nothing of this transaction \
        was applied. Abort this migration (replicate abort --drop-target-data) and begin a new one.
        """)
  }
}
