import LibPQ
import LogicalReplication

/// Copies tables under one exported snapshot with several workers.
struct TableCopy: Sendable {
  let source: ConnectionString
  let target: ConnectionString
  let workers: Int
  let progress: CopyProgress
  /// Whether the stream goes on from the snapshot: then its LSN is stored with the rows.
  let isStreamed: Bool
  /// Whether the tables are the user's own: what is evaluated as rows come in is so under the settings of the
  /// database's users. An extension's is under those that its author could count on.
  let areUsers: Bool
  let rateLimit: RateLimit?

  init(
    source: ConnectionString, target: ConnectionString, workers: Int, progress: CopyProgress,
    isStreamed: Bool = true, areUsers: Bool = true, rateLimit: RateLimit? = nil
  ) {
    self.source = source
    self.target = target
    self.workers = workers
    self.progress = progress
    self.isStreamed = isStreamed
    self.areUsers = areUsers
    self.rateLimit = rateLimit
  }

  /// A table, or a batch of small ones, is emptied, filled and marked as copied in one transaction of the
  /// target, so that a crash costs what was under way and no more. A table that travels in parts is marked
  /// after the last of them.
  func run(_ plan: CopyPlan, under snapshot: ExportedSnapshot) async throws {
    try await clear(plan.split, snapshot.direction)
    let queue = WorkQueue(plan.batches)
    let parts = PartCounter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<min(workers, plan.batches.count) {
        group.addTask { try await work(through: queue, parts, under: snapshot) }
      }
      try await group.waitForAll()
    }
  }

  private func clear(_ tables: [RelationName], _ direction: Direction) async throws {
    guard !tables.isEmpty else { return }
    let target = try await open(direction)
    try await closing(target) {
      for table in tables {
        try await target.query("TRUNCATE ONLY \(table)", doing: "emptying \(table)")
      }
    }
  }

  private func open(_ direction: Direction) async throws -> Connection {
    let target = try await Session.open(target, end: direction.to, purpose: "copy")
    // What is copied is durable before anything is confirmed to the source: the stream's own flushes come
    // later in the same WAL.
    try await target.query(
      "SET session_replication_role = replica; SET synchronous_commit = off", doing: "preparing the copy")
    return target
  }

  private func work(
    through queue: WorkQueue<CopyBatch>, _ parts: PartCounter, under snapshot: ExportedSnapshot
  ) async throws {
    let source = try await Session.open(source, end: snapshot.direction.from, purpose: "copy")
    let target = try await open(snapshot.direction)
    try await closing(source, target) {
      let settings =
        areUsers ? try await UserSettings.read(from: source, usableOn: target) : UserSettings()
      try await settings.apply(to: target)
      try await snapshot.enter(source)
      while let batch = await queue.next() {
        let copied = try await copy(
          batch, from: source, to: target, at: snapshot.lsn, settings.detour(to: batch.owner))
        let whole = await parts.finished(batch, copied)
        if isStreamed, !whole.isEmpty { try await StateStore(target).markCopied(whole, at: snapshot.lsn) }
        progress.finish(
          tables: batch.clearing == nil ? whole.count : copied.count, rows: copied.reduce(0) { $0 + $1.rows })
      }
    }
  }

  /// - Returns: what came, a value a piece.
  private func copy(
    _ batch: CopyBatch, from source: Connection, to target: Connection, at lsn: LSN,
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
      let (rows, bytes) = try await pump.run(doing: action)
      copied.append(CopiedRelation(sourceOID: piece.sourceOID, bytes: bytes, rows: Int64(rows)))
    }
    if isStreamed, batch.clearing != nil { try await StateStore(target).markCopied(copied, at: lsn) }
    try await target.query("COMMIT", doing: action)
    return copied
  }
}

/// Puts the parts of tables together.
private actor PartCounter {
  private var parts: [UInt32: (count: Int, sum: CopiedRelation)] = [:]

  /// - Returns: the tables whose last part this was.
  func finished(_ batch: CopyBatch, _ copied: [CopiedRelation]) -> [CopiedRelation] {
    zip(batch.pieces, copied).compactMap { piece, part in
      guard piece.parts > 1 else { return nil }
      var table = parts[piece.sourceOID] ?? (0, CopiedRelation(sourceOID: piece.sourceOID, bytes: 0, rows: 0))
      table.count += 1
      table.sum.bytes += part.bytes
      table.sum.rows += part.rows
      parts[piece.sourceOID] = table
      return table.count == piece.parts ? table.sum : nil
    }
  }
}
