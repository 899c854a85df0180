import LibPQ
import LogicalReplication

/// Copies tables under one exported snapshot with several workers.
struct TableCopy: Sendable {
  let source: ConnectionString
  let target: ConnectionString
  let workers: Int
  let progress: CopyProgress
  /// Whether the stream continues from the snapshot: then its LSN is stored with the rows.
  var isStreamed = true
  /// Whether the tables are the user's own: then expressions are evaluated under the settings of the
  /// database's users. Those of extension tables are under the settings that the extension's author could
  /// rely on.
  var areUsers = true
  var rateLimit: RateLimit?
  /// Whether a table whose rows the other end refuses is skipped, and the others continue.
  var leavesRefused = false

  /// What was not copied, by the OIDs of the end that rows come from.
  struct Left: Sendable {
    /// The snapshot no longer describes them: they need a newer one.
    var outdated: Set<UInt32> = []
    /// The other end's errors on rows that it refuses.
    var refused: [UInt32: PostgresError] = [:]
  }

  /// A table, or a batch of small ones, is emptied, filled and marked as copied in one transaction on the
  /// target, so that a crash loses only what was in progress. A table copied in parts is marked after the
  /// last of them.
  /// - Parameter lineages: the tables as they are under the snapshot, by their OIDs on the source.
  func copy(
    _ plan: CopyPlan, under snapshot: ExportedSnapshot, lineages: [UInt32: TableLineage] = [:]
  ) async throws -> Left {
    try await clear(plan.clearing, snapshot.direction)
    let observer = try await Session.open(source, end: snapshot.direction.from, purpose: "copy")
    return try await closing(observer) {
      let watch = SnapshotWatch(
        observer: observer, versions: try await versions(of: plan, under: snapshot, in: observer))
      let queue = WorkQueue(plan.batches)
      let parts = PartCounter()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<min(workers, plan.batches.count) {
          group.addTask { try await work(through: queue, parts, watch, under: snapshot, lineages) }
        }
        try await group.waitForAll()
      }
      return await watch.left
    }
  }

  private func versions(
    of plan: CopyPlan, under snapshot: ExportedSnapshot, in session: Connection
  ) async throws -> [UInt32: String] {
    try await snapshot.enter(session)
    let oids = Set(plan.batches.flatMap(\.pieces).map(\.sourceOID))
    let versions = try await TableVersion.read(Array(oids), from: session)
    try await session.query("COMMIT", doing: "leaving the snapshot's transaction")
    return versions
  }

  private func clear(_ statements: [String], _ direction: Direction) async throws {
    guard !statements.isEmpty else { return }
    let target = try await open(direction)
    try await closing(target) {
      for statement in statements {
        try await target.query(statement, doing: "emptying a table that is copied in parts")
      }
    }
  }

  private func open(_ direction: Direction) async throws -> Connection {
    let target = try await Session.open(target, end: direction.to, purpose: "copy")
    // The copy is durable before anything is confirmed to the source: the stream's own flushes come later in
    // the same WAL.
    try await target.query(
      "SET session_replication_role = replica; SET synchronous_commit = off", doing: "preparing the copy")
    return target
  }

  private func work(
    through queue: WorkQueue<CopyBatch>, _ parts: PartCounter, _ watch: SnapshotWatch,
    under snapshot: ExportedSnapshot, _ lineages: [UInt32: TableLineage]
  ) async throws {
    var again: [CopyBatch] = []
    while true {
      do {
        let source = try await Session.open(source, end: snapshot.direction.from, purpose: "copy")
        let target = try await open(snapshot.direction)
        return try await closing(source, target) {
          let settings =
            areUsers ? try await UserSettings.read(from: source, usableOn: target) : UserSettings()
          try await settings.apply(to: target)
          try await snapshot.enter(source)
          while true {
            var next = again.popLast()
            if next == nil { next = await queue.next() }
            guard let batch = next else { return }
            let copied = try await copy(
              batch, from: source, to: target,
              CopiedSnapshot(lsn: snapshot.lsn, watch: watch, lineages: lineages),
              settings.detour(to: batch.owner))
            let whole = await parts.finished(batch, copied, lineages)
            if isStreamed, !whole.isEmpty {
              try await StateStore(target).markCopied(whole, at: snapshot.lsn)
            }
            progress.finish(
              tables: batch.clearing == nil ? whole.count : copied.count,
              rows: copied.reduce(0) { $0 + $1.rows })
          }
        }
      } catch let missing as MissingTable {
        let batch = missing.batch
        if batch.pieces.count == 1, let piece = batch.pieces.first { await watch.note(piece) }
        // One at a time, to find out which it is and to copy the others.
        if batch.pieces.count > 1 { again += batch.pieces.map { CopyPlan.alone($0, of: batch) } }
      } catch let refused as RefusedRows where leavesRefused {
        let batch = refused.batch
        if batch.pieces.count == 1 { await watch.note(refused) }
        if batch.pieces.count > 1 { again += batch.pieces.map { CopyPlan.alone($0, of: batch) } }
      } catch let refused as RefusedRows {
        throw refused.error
      }
    }
  }

  /// A table or column no longer exists under its name, on either end.
  private struct MissingTable: Error {
    var batch: CopyBatch
  }

  /// The other end refuses a table's rows as they are.
  fileprivate struct RefusedRows: Error {
    var batch: CopyBatch
    var piece: CopyPiece
    var error: PostgresError
  }

  private static let missing: Set<SQLState> = [.undefinedTable, .undefinedColumn, .wrongObjectType]

  private func copy(
    _ batch: CopyBatch, from source: Connection, to target: Connection, _ snapshot: CopiedSnapshot,
    _ detour: UserSettings.Detour?
  ) async throws -> [CopiedRelation] {
    do {
      return try await copyAll(of: batch, from: source, to: target, snapshot, detour)
    } catch let error as PostgresError where error.sqlState.map(Self.missing.contains) ?? false {
      throw MissingTable(batch: batch)
    }
  }

  /// - Returns: the pieces that were copied and match the snapshot.
  private func copyAll(
    of batch: CopyBatch, from source: Connection, to target: Connection, _ snapshot: CopiedSnapshot,
    _ detour: UserSettings.Detour?
  ) async throws -> [CopiedRelation] {
    guard let piece = batch.pieces.first else { return [] }
    let action = "copying \(piece.name)\(batch.pieces.count > 1 ? " and others" : "")"
    let first = ["BEGIN", detour?.enter, batch.clearing].compactMap { $0 }
    try await target.query(first.joined(separator: "; "), doing: action)
    var copied: [CopiedRelation] = []
    for piece in batch.pieces {
      let action = "copying \(piece.name)"
      try await source.startCopyOut(piece.copyOut, doing: action)
      try await target.startCopyIn(piece.copyIn, doing: action)
      let pump = CopyPump(source: source, target: target, rateLimit: rateLimit) { progress.add(bytes: $0) }
      let rows: Int
      let bytes: Int64
      do {
        (rows, bytes) = try await pump.pump(doing: action)
      } catch let error as PostgresError where error.isRefusalOfContent {
        // Both ends know the table by now: a row is at fault, perhaps by what it refers to.
        throw RefusedRows(batch: batch, piece: piece, error: error)
      }
      var relation = CopiedRelation(sourceOID: piece.sourceOID, bytes: bytes, rows: Int64(rows))
      relation.lineage = snapshot.lineages[piece.sourceOID]
      copied.append(relation)
    }
    // Each COPY has locked its table until the snapshot's transaction ends: its definition is unchanged.
    let outdated = try await snapshot.watch.outdated(batch.pieces)
    copied.removeAll { outdated.contains($0.sourceOID) }
    if isStreamed, batch.clearing != nil { try await StateStore(target).markCopied(copied, at: snapshot.lsn) }
    try await target.query("COMMIT", doing: action)
    return copied
  }
}

/// The snapshot that rows are read under, and the tables' definitions there.
private struct CopiedSnapshot {
  let lsn: LSN
  let watch: SnapshotWatch
  let lineages: [UInt32: TableLineage]
}

/// Finds tables that the snapshot does not describe correctly.
private actor SnapshotWatch {
  private let observer: Connection
  private let versions: [UInt32: String]
  private(set) var left = TableCopy.Left()

  init(observer: Connection, versions: [UInt32: String]) {
    self.observer = observer
    self.versions = versions
  }

  func note(_ piece: CopyPiece) { left.outdated.insert(piece.sourceOID) }
  func note(_ refused: TableCopy.RefusedRows) { left.refused[refused.piece.sourceOID] = refused.error }

  func outdated(_ pieces: [CopyPiece]) async throws -> Set<UInt32> {
    let oids = pieces.map(\.sourceOID)
    let now = try await TableVersion.read(oids, from: observer)
    left.outdated.formUnion(oids.filter { now[$0] == nil || now[$0] != versions[$0] })
    return left.outdated
  }
}

/// Puts the parts of tables together.
private actor PartCounter {
  private var parts: [UInt32: (count: Int, sum: CopiedRelation)] = [:]

  /// - Returns: the tables whose last part this was.
  func finished(
    _ batch: CopyBatch, _ copied: [CopiedRelation], _ lineages: [UInt32: TableLineage]
  ) -> [CopiedRelation] {
    copied.compactMap { part in
      guard let piece = batch.pieces.first(where: { $0.sourceOID == part.sourceOID }), piece.parts > 1
      else { return nil }
      var table = parts[piece.sourceOID] ?? (0, CopiedRelation(sourceOID: piece.sourceOID, bytes: 0, rows: 0))
      table.sum.lineage = lineages[piece.sourceOID]
      table.count += 1
      table.sum.bytes += part.bytes
      table.sum.rows += part.rows
      parts[piece.sourceOID] = table
      return table.count == piece.parts ? table.sum : nil
    }
  }
}
