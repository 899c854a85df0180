import LibPQ
import Logging
import LogicalReplication

/// The copy: what is in the target already stays, everything else comes under one snapshot.
struct MigrationCopy: Sendable {
  let options: MigrationOptions
  let logger: Logger
  let ends: MigrationEnds
  let board: MigrationBoard

  private var store: StateStore { StateStore(ends.target) }

  /// - Parameters:
  ///   - relations: those of the source that are migrated.
  ///   - held: the snapshot at the slot's beginning; nil when an earlier engine took it along.
  func run(_ relations: [Relation], under held: ExportedSnapshot?) async throws {
    let stored = try await store.relations()
    let tables = missing(stored, relations)
    let migration = try await store.load()
    let wantsLargeObjects = migration?.largeObjectsHorizon == nil && !options.leavesLargeObjectsBehind
    guard !tables.isEmpty || wantsLargeObjects else {
      await held?.release()
      return try await show()
    }
    let progress = CopyProgress()
    board.beginCopy(stored, secondsSoFar: migration?.copySeconds ?? 0, progress)
    let began = ContinuousClock.now
    let snapshot: ExportedSnapshot
    if let held {
      snapshot = held
    } else {
      snapshot = try await ReplicationSlot.temporarySnapshot(on: options.source, observer: ends.source)
    }
    func end() async {
      await snapshot.release()
      await noteTime(since: began)
    }
    try await finally(end) {
      // First: what the rows' own checks and expressions may look things up in.
      try await ExtensionTables(
        source: options.source, target: options.target, excluded: Set(options.excluded)
      ).copy(observer: ends.source, target: ends.target, under: snapshot)
      let limit = RateLimit(options.maxBytesPerSecond)
      let copy = TableCopy(
        source: options.source, target: options.target, workers: options.jobs, progress: progress,
        rateLimit: limit)
      try await copy.run(CopyPlan(tables, workers: options.jobs), under: snapshot)
      if wantsLargeObjects { try await copyLargeObjects(under: snapshot, since: nil, limit) }
    }
    try await show()
  }

  /// What is not in the target yet.
  private func missing(_ stored: [StoredRelation], _ relations: [Relation]) -> [Relation] {
    let missing = stored.filter { $0.snapshotLSN == nil }
    let oids = Set(missing.map(\.sourceOID))
    let tables = relations.filter { oids.contains($0.oid) }
    let there = Set(tables.map(\.oid))
    let gone = missing.filter { !there.contains($0.sourceOID) }
    if !gone.isEmpty {
      // They are told once more, with what to do on the target, while the stream runs.
      logger.warning(
        "tables were dropped on the source before they were copied",
        metadata: ["tables": "\(gone.map(\.name.description))"])
    }
    return tables
  }

  // MARK: Large objects

  /// Brings over what has become of the large objects since they were copied: no stream carries it.
  /// - Parameter observer: of the source; nil: the attempt's own.
  /// - Returns: how many have changed.
  func syncLargeObjects(observer: Connection? = nil) async throws -> Int {
    guard let horizon = try await store.load()?.largeObjectsHorizon, !options.leavesLargeObjectsBehind else {
      return 0
    }
    var exist = try await LargeObjects.exist(on: observer ?? ends.source)
    // The last of them may have gone from the source.
    if !exist { exist = try await LargeObjects.exist(on: ends.target) }
    guard exist else { return 0 }
    let snapshot = try await ExportedSnapshot.current(on: options.source)
    return try await finally(snapshot.release) {
      try await copyLargeObjects(under: snapshot, since: horizon)
    }
  }

  /// Large objects that were written behind the fence, which does not stop that: they are looked at once
  /// more behind the seal. What is left is needed on the target, not on the end that was left, so the loss of
  /// that stops nothing.
  /// - Parameter left: the end that writes leave.
  static func again(
    left: ConnectionString, moving direction: Direction = .forward, _ logger: Logger,
    _ sync: (_ fresh: Connection?) async throws -> Int
  ) async throws -> String {
    guard let changed = try await Silence.reading(left, end: direction.from, sync) else {
      logger.warning("large objects could not be read again behind the seal")
      return ", large objects as they were behind the fence"
    }
    return changed == 0 ? "" : ", \(changed) large objects again"
  }

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

  /// Also when the copy was cut short; a figure for the report, whose loss costs nothing.
  private func noteTime(since began: ContinuousClock.Instant) async {
    do {
      try await store.addCopySeconds((ContinuousClock.now - began) / .seconds(1))
    } catch {
      logger.debug("the copy's time could not be stored", metadata: ["why": "\(error)"])
    }
  }
}
