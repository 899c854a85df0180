import LibPQ
import Logging
import LogicalReplication

/// The phases of one engine run, on the two ends that it has reached.
struct EnginePhases: PhaseWork, PhasePart {
  let context: PhaseContext
  private let migration: StoredMigration
  private let slot: ReplicationSlot
  private let archive: SchemaArchive
  private let refused = RefusedTables()
  private let pace = RefusedSchemaPace()
  private let held = HeldSnapshot()

  init(
    options: MigrationOptions, logger: Logger, ends: Endpoints, board: StatusBoard,
    migration: StoredMigration
  ) throws {
    guard let name = SlotName(migration.slot) else {
      throw MigrationError(
        .failed, doing: "reading the migration's state",
        reason: "it holds no valid name of a replication slot")
    }
    context = PhaseContext(
      options: options, logger: logger, ends: ends, board: board,
      phase: PhaseRecord(migration.phase, StateStore(ends.target), board))
    self.migration = migration
    slot = ReplicationSlot(name: name)
    archive = SchemaArchive(source: options.source)
  }

  /// The snapshot at the slot's beginning, from the schema's transfer to the copy.
  private actor HeldSnapshot {
    private var snapshot: ExportedSnapshot?
    func keep(_ snapshot: ExportedSnapshot?) { self.snapshot = snapshot }
    func take() -> ExportedSnapshot? {
      defer { snapshot = nil }
      return snapshot
    }
  }

  private var excluded: Set<RelationName> { Set(migration.excluded) }
  private var publication: Publication { Publication(name: migration.publication) }
  private var copy: CopyPhase { CopyPhase(context: context, refused: refused) }
  private var refusedSchema: RefusedSchema {
    RefusedSchema(context: context, publication: publication, pace: pace)
  }
  private var restoration: SchemaRestoration {
    SchemaRestoration(
      context: context, archive: archive, migration: migration, refusedSchema: refusedSchema)
  }
  private var newTables: NewTables {
    NewTables(
      context: context, publication: publication, excluded: excluded, refused: refused,
      refusedSchema: refusedSchema)
  }

  // MARK: Before the stream

  func begin() async throws { try await copy.show() }

  func transferSchema() async throws {
    let schema = SchemaPhase(
      context: context, slot: slot, publication: publication, excluded: excluded, archive: archive,
      restoration: restoration)
    await held.keep(try await schema.transfer())
  }

  func copyTables() async throws {
    // Definitions have changed since the dump: dump again.
    if try await copy.copyTables(under: await held.take()) { await archive.remove() }
  }

  func buildIndexes() async throws {
    try await restoration.restore(.indexes)
    // The target's tables: the source may have more by now.
    let relations = try await Catalog.read(from: ends.target).relations
    try await PlannerStatistics.refresh(
      relations, on: options.target, workers: options.jobs,
      under: try await UserSettings.read(from: ends.source, usableOn: ends.target))
  }

  func catchUp() async throws {
    try await CatchUpPhase(
      context: context, restoration: restoration, newTables: newTables, refused: refused,
      session: try await streamSession()
    ).catchUp()
    await archive.remove()
  }

  // MARK: The stream

  /// A new run of the stream from where the target stands.
  func streamSession() async throws -> (stream: StreamSession, monitor: StreamMonitor) {
    guard let progress = try await store.progress() else {
      throw MigrationError(
        .failed, doing: "resuming the stream", reason: "the target has lost its position in the source's WAL",
        remedy: "Schema replicate of the target was changed: abort this migration and begin a new one.")
    }
    let monitor = StreamMonitor(resuming: progress)
    board.beginStream(monitor)
    let stream = StreamSession(
      leg: Leg.Addresses(from: options.source, to: options.target), slot: slot.name,
      publication: migration.publication, tables: { try await streamTables(noting: monitor.messages) },
      monitor: monitor, logger: logger)
    return (stream, monitor)
  }

  /// What both ends have now, on its own connections: the stream asks while others work.
  private func streamTables(noting sent: SentMessages) async throws -> StreamTables {
    let source = try await Session.open(options.source, end: "source", purpose: "catalog")
    let target = try await Session.open(options.target, end: "target", purpose: "catalog")
    return try await closing(source, target) {
      try await MigratedTables(excluded: excluded).streamed(
        source: source, target: target, noting: sent)
    }
  }

  func stream(resumesCutover: Bool) async throws -> Status.Cutover {
    let session = try await streamSession()
    let cutover = CutoverPhase(
      context: context, publication: publication, tables: MigratedTables(excluded: excluded),
      monitor: session.monitor, refusedSchema: refusedSchema)
    return try await StreamPhase(
      context: context, session: session, newTables: newTables, cutover: cutover, cleanup: sourceCleanup
    ).streamUntilCutover(resumesCutover: resumesCutover)
  }

  // MARK: After the cutover

  func conclude() async throws { try await settlement(.forward).makeAll() }

  func streamBack() async throws -> Migration.Outcome {
    guard let way = try await store.reverseReplication(),
      let report = try await store.completedCutover()?.report
    else {
      throw MigrationError(
        .failed, doing: "carrying the target's writes back to the source",
        reason: "the target has lost the state of reverse replication",
        remedy: "Schema replicate of the target was changed: run replicate finish.")
    }
    // A rollback that was under way comes first: neither end may take writes until it is over.
    let isRollingBack = try await store.latestCutover()?.state == .running
    if !isRollingBack, try await store.isFinishRequested() { return .complete(report) }
    try await sourceCleanup.cleanUp()
    let reverse = ReversePhase(
      context: context, tables: MigratedTables(excluded: excluded), way: way)
    switch try await reverse.streamBack() {
    case .rolledBack(let report):
      try await rollbackCleanUp()
      try await settlement(.back).makeAll()
      return .complete(report)
    case .finished: return .complete(report)
    }
  }

  func stop() async throws -> Migration.Outcome {
    guard let completed = try await store.completedCutover(), let report = completed.report else {
      return .stopped
    }
    guard try await store.load()?.isFinished != true else { return .complete(report) }
    if completed.request.direction == .back {
      try await rollbackCleanUp()
    } else {
      try await sourceCleanup.cleanUp()
    }
    try await settlement(completed.request.direction).makeAll()
    return .complete(report)
  }

  private var sourceCleanup: SourceCleanup {
    SourceCleanup(
      address: options.source, source: ends.source, slot: slot,
      publication: publication, store: store, logger: logger)
  }

  private func settlement(_ direction: Direction) -> Settlement {
    Settlement(direction: direction, source: ends.source, target: ends.target, logger: logger)
  }

  /// As after a cutover: removes what the stream needed. The target's fence stays.
  private func rollbackCleanUp() async throws {
    try await ReverseReplication(
      options: options, ends: ends, excluded: excluded, logger: logger
    ).remove()
  }
}
