import LibPQ
import Logging
import LogicalReplication

/// The copy: tables already on the target stay, everything else is copied under one snapshot.
struct CopyPhase: PhasePart {
  let context: PhaseContext
  let refused: RefusedTables

  /// How often to check whether tables that could not be copied can be now.
  private static let pause = Duration.seconds(2)

  /// Copies until every registered table is on the target as the source has it by then.
  /// - Parameter held: the snapshot at the slot's beginning; nil when it ended with an earlier engine.
  /// - Returns: whether definitions have changed since it was taken.
  func copyTables(under held: ExportedSnapshot?) async throws -> Bool {
    let stored = try await store.relations()
    let migration = try await store.load()
    let wantsLargeObjects = migration?.largeObjectsHorizon == nil && !options.leavesLargeObjectsBehind
    guard wantsLargeObjects || stored.contains(where: { $0.snapshotLSN == nil }) else {
      await held?.release()
      try await show()
      return false
    }
    let progress = CopyProgress()
    board.beginCopy(stored, secondsSoFar: migration?.copySeconds ?? 0, progress)
    let began = ContinuousClock.now
    func end() async { await noteTime(since: began) }
    let hasChanged = try await finally(end) {
      let limit = RateLimit(options.maxBytesPerSecond)
      let first = if let held { held } else { try await nextSnapshot() }
      var isDone = try await finally(first.release) {
        // First: constraints and expressions of the other tables may look up rows in these.
        try await ExtensionTables(
          source: options.source, target: options.target, excluded: Set(options.excluded)
        ).copy(observer: ends.source, target: ends.target, under: first)
        let isDone = try await round(progress, limit, under: first)
        if wantsLargeObjects { try await copyLargeObjects(under: first, since: nil, limit) }
        return isDone
      }
      let hasChanged = !isDone
      while !isDone {
        let next = try await nextSnapshot()
        isDone = try await finally(next.release) { try await round(progress, limit, under: next) }
        if !isDone { try await Task.sleep(for: Self.pause) }
      }
      report(nil)
      return hasChanged
    }
    try await show()
    return hasChanged
  }

  /// Copies the missing tables that fit, as they are under a snapshot.
  /// - Returns: whether nothing is missing.
  private func round(
    _ progress: CopyProgress, _ limit: RateLimit?, under snapshot: ExportedSnapshot
  ) async throws -> Bool {
    let missing = try await store.relations().filter { $0.snapshotLSN == nil && !refused.holds($0.sourceOID) }
    let copies = try await TableCopies(options: options, ends: ends).copy(
      missing, progress: progress, limit, under: snapshot)
    if !copies.anew.isEmpty {
      logger.info(
        "tables were redefined or rewritten before they were copied, and are copied on a newer snapshot",
        metadata: ["tables": "\(copies.anew.map(\.description))"])
    }
    let gone = copies.gone
    if !gone.isEmpty {
      // They are reported again, with what to do on the target, while the stream runs.
      logger.warning(
        "tables were dropped on the source before they were copied",
        metadata: ["tables": "\(gone.map(\.description))"])
    }
    // What their rows refer to, such as an index, may be on the target later.
    for (oid, table) in copies.refused where refused.note(oid, table.name, table.words) {
      logger.warning(
        "the target refuses rows of a table, which is copied again later",
        metadata: ["table": "\(table.name)", "because": "\(table.words)"])
    }
    report(copies.obstacles.isEmpty ? nil : copies.obstacles.joined(separator: "\n"))
    return copies.anew.isEmpty && copies.obstacles.isEmpty
  }

  /// A snapshot taken once the transactions that were open when it was requested have ended; until then those
  /// it waits for are reported.
  private func nextSnapshot() async throws -> ExportedSnapshot {
    while true {
      do {
        return try await ReplicationSlot.temporarySnapshot(on: options.source, observer: ends.source)
      } catch let error as OpenTransactions {
        report("\(error.error)")
      }
    }
  }

  /// Shows what the copy waits for in the status, and in the log when it is news.
  private func report(_ obstacle: String?) {
    guard board.status.stream.waitsFor != obstacle else { return }
    if let obstacle { logger.warning("the copy waits", metadata: ["for": "\(obstacle)"]) }
    board.update { $0.stream.waitsFor = obstacle }
  }

  // MARK: Large objects

  @discardableResult
  private func copyLargeObjects(
    under snapshot: ExportedSnapshot, since horizon: String?, _ limit: RateLimit? = nil
  ) async throws -> Int {
    let objects = LargeObjects(
      source: options.source, target: options.target, workers: options.jobs, rateLimit: limit)
    let outcome = try await objects.copy(under: snapshot, since: horizon)
    try await store.store(largeObjectsHorizon: outcome.horizon)
    if outcome.changed > 0 { logger.info("large objects", metadata: ["changed": "\(outcome.changed)"]) }
    return outcome.changed
  }

  // MARK: Progress

  func show() async throws {
    board.endCopy(try await store.relations(), seconds: try await store.load()?.copySeconds ?? 0)
  }

  /// Also when the copy was cut short; the loss of this figure of the report does no harm.
  private func noteTime(since began: ContinuousClock.Instant) async {
    do {
      try await store.addCopySeconds((ContinuousClock.now - began) / .seconds(1))
    } catch {
      logger.debug("the copy's time could not be stored", metadata: ["why": "\(error)"])
    }
  }
}
