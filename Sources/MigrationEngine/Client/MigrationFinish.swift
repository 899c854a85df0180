package import LibPQ
package import Logging
import LogicalReplication

/// The options of `finish`.
package struct FinishOptions: Sendable {
  /// The end that was left (after a cutover the source) accepts writes again, to be used for something else.
  var opensOldEnd: Bool
  /// The source is lost: only the target is cleaned.
  var isSourceGone: Bool
  /// The source was given nevertheless, so that it can be checked that nothing answers there.
  var isSourceNamed: Bool

  /// - Parameters:
  ///   - opensOldEnd: the end that was left accepts writes again.
  ///   - isSourceGone: only the target is cleaned.
  ///   - isSourceNamed: the user gave the source's address, and nothing may answer there.
  package init(opensOldEnd: Bool = false, isSourceGone: Bool = false, isSourceNamed: Bool = true) {
    self.opensOldEnd = opensOldEnd
    self.isSourceGone = isSourceGone
    self.isSourceNamed = isSourceNamed
  }
}

/// Ends a migration for good after a cutover, or after a rollback: the reverse stream stops, and both ends
/// are cleaned. The report stays, and so does the seal that keeps the old database from being written to.
package struct MigrationFinish: Sendable {
  private let source: ConnectionString
  private let target: ConnectionString
  private let logger: Logger

  /// Connects to nothing yet.
  package init(source: ConnectionString, target: ConnectionString, logger: Logger) {
    self.source = source
    self.target = target
    self.logger = logger
  }

  /// - Returns: what was removed. It can be repeated after an interruption.
  /// - Throws: `MigrationError` with kind `.usage` before the cutover, and during a rollback.
  package func finish(_ options: FinishOptions) async throws -> [String] {
    let target = try await Session.open(target, end: "target", purpose: "finish")
    return try await closing(target) {
      let store = StateStore(target)
      let direction = try await verify(store)
      guard try await store.load()?.isFinished != true else { return [] }
      if options.isSourceGone, options.isSourceNamed { try await ensureGone() }
      let source = options.isSourceGone ? nil : try await openSource()
      func close() async { await source?.close() }
      return try await finally(close) {
        if let source { try await verify(source, is: try await store.load()) }
        try await stopEngine(store)
        guard try await verify(store) == direction else {
          throw refusal(
            "a rollback has been completed meanwhile", "Look at replicate status, then ask again.")
        }
        return try await clean(Ends(source: source, target: target), direction, options)
      }
    }
  }

  private struct Ends {
    var source: Connection?
    var target: Connection
  }

  private func openSource() async throws -> Connection {
    do {
      return try await Session.open(source, end: "source", purpose: "finish")
    } catch let error as PostgresError where error.isConnectionLoss {
      guard case .silent(let seen) = try await Silence.listen(source, end: "source").verdict else {
        throw error
      }
      throw MigrationError(
        .failed, doing: error.action, reason: "\(error.message) (\(seen))",
        remedy: "If the source is no more, give --without-source.")
    }
  }

  /// What is left on a living source would retain its WAL. A name that no longer resolves is no source.
  private func ensureGone() async throws {
    guard case .answers(let words) = try await Silence.listen(source, end: "source").verdict else { return }
    throw refusal(
      "the source answers: \(words)",
      "Run replicate finish without --without-source, which cleans it, too. To leave it as it is, do not "
        + "name it (--source, REPLICATE_SOURCE).")
  }

  /// - Returns: the direction of the newest complete cutover.
  private func verify(_ store: StateStore) async throws -> Direction {
    guard let migration = try await store.load() else {
      throw refusal("the target holds no migration", "Give the target that it was begun with.")
    }
    guard [.complete, .reverse].contains(migration.phase), let completed = try await store.completedCutover()
    else {
      throw refusal(
        "the migration is in phase \(migration.phase.rawValue)",
        "There is nothing to finish before the cutover is complete; replicate abort gives a migration up.")
    }
    if let latest = try await store.latestCutover(), latest.state == .running,
      latest.request.direction == .back
    {
      throw refusal("a rollback is under way", "Wait for its end, then ask again.")
    }
    return completed.request.direction
  }

  private func verify(_ source: Connection, is migration: StoredMigration?) async throws {
    let identity = try await DatabaseIdentity.read(from: source, at: self.source)
    let system = try identity.knownSystem()
    guard migration?.sourceSystem == system, migration?.slot == identity.slotName else {
      throw refusal(
        "the migration is of another source database (\(migration?.sourceDatabase ?? "unknown"))",
        "Give the source that it began with.")
    }
  }

  private func refusal(_ reason: String, _ remedy: String) -> MigrationError {
    MigrationError(.usage, doing: "finishing the migration", reason: reason, remedy: remedy)
  }

  /// Asks a running engine to stop and takes its lock, so that no other starts.
  private func stopEngine(_ store: StateStore) async throws {
    try await store.requestFinish()
    try await store.takeLock(thenRun: "replicate finish")
  }

  // MARK: Cleaning

  /// Whatever fails here can be repeated: its stored state is removed last.
  private func clean(_ ends: Ends, _ direction: Direction, _ options: FinishOptions) async throws -> [String]
  {
    let store = StateStore(ends.target)
    var removed: [String] = []
    if let source = ends.source {
      removed += try await cleanSource(source, ends.target, direction, opens: options.opensOldEnd)
    }
    if let way = try await store.reverseReplication() {
      // The lock admits no engine, and the source is not contacted.
      try await ReverseReplication.removePublished(way, from: ends.target)
      removed.append("slot \(way.slot) and publication \(way.publication) on the target")
    }
    try await Settlement(
      direction: .forward, source: nil, target: ends.target, logger: logger
    ).insist(within: .seconds(60))
    if direction == .forward || options.opensOldEnd {
      if try await SourceState(ends.target).fence() != nil {
        if direction == .back { try await WriteGate.dropReadOnlyDefault(ends.target) }
        try await WriteFence(ends.target).unseal()
        try await WriteFence(ends.target).remove()
        try await ends.target.query(
          "DROP FUNCTION replicate.fence(), replicate.note(text, jsonb)",
          doing: "dropping the fence's state on the target", within: .seconds(30))
        removed.append("fence and its triggers on the target")
      }
    }
    guard let phase = try await store.load()?.phase else { return removed }
    var phases = PhaseMachine(phase: phase)
    if phase == .reverse { _ = try phases.handle(.reverseEnded) }
    try await store.storeFinished(phases)
    return removed
  }

  /// Restores identity columns and triggers to their state before reverse replication. Readers of the old
  /// database may block this indefinitely, but nobody writes to it: no reason to fail.
  private func giveBack(_ source: Connection, _ target: Connection) async throws {
    let left = try await Settlement(
      direction: .back, source: source, target: target, logger: logger
    ).giveBack(within: .seconds(20))
    guard !left.isEmpty else { return }
    logger.warning(
      "definitions of the source stay as the way back needed them: their tables are in use",
      metadata: ["what": "\(left.words)"])
  }

  private func cleanSource(
    _ source: Connection, _ target: Connection, _ direction: Direction, opens: Bool
  ) async throws -> [String] {
    guard let fence = try await SourceState(source).fence() else { return [] }
    let migration = try await StateStore(target).load()
    var removed: [String] = []
    if let name = SlotName(migration?.slot ?? "") { try await ReplicationSlot(name: name).drop(on: source) }
    if let publication = migration?.publication { try await Publication(name: publication).drop(on: source) }
    if direction == .forward, fence == .sealed {
      try await giveBack(source, target)
      try await WriteFence(source).admit(nil)
    }
    if direction == .back {
      try await Settlement(direction: .back, source: source, target: target, logger: logger)
        .insist(within: .seconds(60))
    }
    guard direction == .back || opens else {
      try await source.query(
        "DROP FUNCTION IF EXISTS replicate.progress(), replicate.confirmation()",
        doing: "dropping the position of the reverse stream on the source", within: .seconds(30))
      return ["position of the reverse stream on the source, whose fence stays sealed"]
    }
    if fence == .sealed { try await WriteGate.ofSealedSource.open(source) }
    try await WriteFence(source).remove()
    try await FullIdentity.restore(notedOn: source, on: source)
    try await source.query(
      "DROP SCHEMA IF EXISTS replicate CASCADE", doing: "dropping schema replicate on the source",
      within: .seconds(30))
    removed.append("fence, its triggers and schema replicate on the source, which is open")
    return removed
  }
}
