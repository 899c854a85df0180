import LibPQ
import LogicalReplication

/// Applies chunks to the target: data and position in one commit (manual, chapter 50, on why that gives
/// exactly once).
struct Applier {
  private let target: Connection
  private let monitor: StreamMonitor
  private var planner: ChangePlanner
  private var isTransactionOpen = false

  /// - Parameter target: for this alone; takes the replica role, so that no trigger or rule of the user's
  ///   fires.
  init(target: Connection, tables: StreamTables, monitor: StreamMonitor) async throws {
    try await target.query("SET session_replication_role = replica", doing: "setting the replica role")
    self.target = target
    self.monitor = monitor
    planner = ChangePlanner(tables: tables)
  }

  /// Applies one chunk. Transactions that end in it are committed together: nobody else reads the target, and
  /// one commit for many is what keeps up with many writers. One that does not end stays open on the target.
  mutating func apply(_ chunk: CopyMessages) async throws {
    let plan = try chunk.bytes.withUnsafeBytes { try planner.plan($0, chunk.messages) }
    monitor.received(upTo: plan.receivedLSN)
    if let commit = plan.commit {
      try await run(plan, 0..<plan.committedCalls)
      try await self.commit(commit)
      monitor.committed(commit)
    }
    if plan.committedCalls < plan.batch.calls.count {
      try await run(plan, plan.committedCalls..<plan.batch.calls.count)
    }
    if plan.changesAfterMarker > 0 { monitor.breached() }
    monitor.finished(plan)
  }

  private mutating func run(_ plan: ChunkPlan, _ calls: Range<Int>) async throws {
    if !isTransactionOpen {
      try await target.query("BEGIN", doing: "beginning to apply changes")
      isTransactionOpen = true
    }
    guard !calls.isEmpty else { return }
    do {
      try await target.run(plan.batch, calls, doing: "applying changes")
    } catch let failure as BatchFailure {
      throw error(failure, plan)
    }
  }

  private mutating func commit(_ point: ChunkPlan.CommitPoint) async throws {
    let rows = try await target.query(
      """
      UPDATE replicate.progress SET applied_lsn = $1, transactions = transactions + $2,
        changes = changes + $3, marker = coalesce($4, marker)
      """, [point.endLSN.description, String(point.transactions), String(point.changes), point.marker],
      doing: "storing the applied LSN")
    guard rows.affected == 1 else {
      throw MigrationError(
        .failed, doing: "storing the applied LSN", reason: "replicate.progress has lost its row",
        remedy: "Somebody changed schema replicate of the target. Abort this migration and begin a new one.")
    }
    try await target.query("COMMIT", doing: "committing changes up to \(point.endLSN)")
    isTransactionOpen = false
  }

  private func error(_ failure: BatchFailure, _ plan: ChunkPlan) -> any Error {
    guard plan.changes.indices.contains(failure.call) else { return failure }
    let change = plan.changes[failure.call]
    let table = planner.name(of: change.relationID)
    let action = "applying \(change.kind.rawValue) to table \(table) (source transaction \(change.xid))"
    switch failure.reason {
    case .refused(let error):
      return error.during(action)
    case .rows(let expected, let affected):
      return MigrationError(
        .failed, doing: action, reason: "it touched \(affected) rows of the target instead of \(expected)",
        remedy: """
          The target is not what the source was: somebody else wrote to it. Nothing of this transaction \
          was applied. Abort this migration (replicate abort --drop-target-data) and begin a new one.
          """)
    }
  }
}
