package import LibPQ
internal import LogicalReplication

/// Copies tables under one exported snapshot with several workers.
package struct TableCopy: Sendable {
  let source: ConnectionString
  let target: ConnectionString
  let workers: Int
  let progress: CopyProgress
  /// Whether the stream goes on from the snapshot: then its LSN is stored with the rows.
  let isStreamed: Bool

  package init(
    source: ConnectionString, target: ConnectionString, workers: Int, progress: CopyProgress,
    isStreamed: Bool = true
  ) {
    self.source = source
    self.target = target
    self.workers = workers
    self.progress = progress
    self.isStreamed = isStreamed
  }

  /// Each table is emptied, filled and marked as copied in one transaction of the target, so that a crash
  /// costs the tables that were under way and no others.
  package func run(_ plan: CopyPlan, under snapshot: ExportedSnapshot) async throws {
    let queue = PieceQueue(plan.pieces)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<min(workers, plan.pieces.count) {
        group.addTask { try await work(through: queue, under: snapshot) }
      }
      try await group.waitForAll()
    }
  }

  private func work(through queue: PieceQueue, under snapshot: ExportedSnapshot) async throws {
    let source = try await Session.open(source, end: "source", purpose: "copy")
    let target = try await Session.open(target, end: "target", purpose: "copy")
    try await snapshot.enter(source)
    try await target.query("SET session_replication_role = replica", doing: "setting the replica role")
    while let piece = await queue.next() {
      try await copy(piece, from: source, to: target, at: snapshot.lsn)
    }
    await source.close()
    await target.close()
  }

  private func copy(
    _ piece: CopyPiece, from source: Connection, to target: Connection, at lsn: LSN
  ) async throws {
    let action = "copying \(piece.name)"
    try await target.query("BEGIN", doing: action)
    // ONLY: an inheritance parent's children are copied on their own.
    try await target.query("TRUNCATE ONLY \(piece.name)", doing: action)
    try await source.startCopyOut(piece.copyOut, doing: action)
    try await target.startCopyIn(piece.copyIn, doing: action)
    let pump = CopyPump(source: source, target: target) { progress.add(bytes: $0) }
    let (rows, bytes) = try await pump.run(doing: action)
    if isStreamed {
      try await StateStore(target).markCopied(piece.sourceOID, at: lsn, bytes: bytes, rows: Int64(rows))
    }
    try await target.query("COMMIT", doing: action)
    progress.finish(rows: rows)
  }
}

/// Hands out pieces, each once.
private actor PieceQueue {
  private var pieces: ArraySlice<CopyPiece>

  init(_ pieces: [CopyPiece]) { self.pieces = pieces[...] }

  func next() -> CopyPiece? { pieces.popFirst() }
}
