import LibPQ
import Logging
import LogicalReplication

/// What each phase does, from the schema to the stream. Every step can be done again after a crash in its
/// middle.
struct PhaseRunner: Sendable {
  let options: MigrationOptions
  let logger: Logger
  let ends: Endpoints
  let board: StatusBoard
  let phase: PhaseRecord
  private let migration: StoredMigration
  private let slot: ReplicationSlot
  private let schema: SchemaTransfer
  private let archive: SchemaArchive
  private let refused = RefusedTables()
  private let pace = RefusedSchemaPace()

  init(
    options: MigrationOptions, logger: Logger, ends: Endpoints, board: StatusBoard,
    migration: StoredMigration
  ) throws {
    guard let name = SlotName(migration.slot) else {
      throw MigrationError(
        .failed, doing: "reading the migration's state",
        reason: "it holds no valid name of a replication slot")
    }
    self.options = options
    self.logger = logger
    self.ends = ends
    self.board = board
    self.migration = migration
    slot = ReplicationSlot(name: name)
    phase = PhaseRecord(migration.phase, StateStore(ends.target), board)
    schema = SchemaTransfer(
      target: options.target, publication: migration.publication, jobs: options.jobs)
    archive = SchemaArchive(source: options.source)
  }

  private var store: StateStore { StateStore(ends.target) }
  private var copy: CopyPhase {
    CopyPhase(options: options, logger: logger, ends: ends, board: board, refused: refused)
  }
  private var unmade: RefusedSchema {
    RefusedSchema(
      options: options, logger: logger, ends: ends, publication: Publication(name: migration.publication),
      pace: pace)
  }
  private var newTables: NewTables {
    NewTables(
      options: options, logger: logger, ends: ends, publication: Publication(name: migration.publication),
      excluded: Set(migration.excluded), refused: refused, unmade: unmade)
  }

  /// What an attempt came to.
  enum End: Sendable {
    case outcome(Migration.Outcome)
    /// The target is open: the next attempt streams back.
    case turned
  }

  func run() async throws -> End {
    try await copy.show()
    var snapshot: ExportedSnapshot?
    var action = await phase.resume()
    while true {
      let current = await phase.current
      logger.info("phase \(current.rawValue)")
      switch action {
      case .transferSchema:
        snapshot = try await transferSchema()
        action = try await phase.advance(.schemaTransferred)
      case .copyTables:
        if try await copy.run(under: snapshot) { await archive.remove() }
        snapshot = nil
        action = try await phase.advance(.tablesCopied)
      case .buildIndexes:
        try await buildIndexes()
        action = try await phase.advance(.indexesBuilt)
      case .catchUp:
        try await catchUp()
        await archive.remove()
        action = try await phase.advance(.caughtUp)
      case .stream, .cutOver:
        let report = try await streaming().run(resumesCutover: action == .cutOver)
        guard await phase.current == .reverse else {
          try await settlement(.forward).makeAll()
          return .outcome(.complete(report))
        }
        logger.notice(
          """
          the cutover is complete; this engine goes on and carries the target's writes back to the source, \
          until replicate finish or replicate rollback
          """, metadata: ["pause": "\(report.writePauseSeconds ?? 0) s"])
        return .turned
      case .streamBack: return .outcome(try await streamBack())
      case .stop: return .outcome(try await stop())
      }
    }
  }

  // MARK: After the cutover

  private func streamBack() async throws -> Migration.Outcome {
    guard let way = try await store.wayBack(), let report = try await store.completedCutover()?.report else {
      throw MigrationError(
        .failed, doing: "carrying the target's writes back to the source",
        reason: "the target has lost the state of the way back",
        remedy: "Schema replicate of the target was changed: run replicate finish.")
    }
    // A rollback that was under way comes first: neither end may take writes until it is over.
    let isRollingBack = try await store.latestCutover()?.state == .running
    if !isRollingBack, try await store.isFinishRequested() { return .complete(report) }
    try await sourceCleanup.run()
    let reverse = ReversePhase(
      options: options, logger: logger, ends: ends, board: board, phase: phase,
      tables: MigratedTables(excluded: Set(migration.excluded)), way: way)
    switch try await reverse.run() {
    case .rolledBack(let report):
      try await rollbackCleanUp()
      try await settlement(.back).makeAll()
      return .complete(report)
    case .finished: return .complete(report)
    }
  }

  /// The migration is complete; whoever ended before may not have cleaned up.
  private func stop() async throws -> Migration.Outcome {
    guard let completed = try await store.completedCutover(), let report = completed.report else {
      return .stopped
    }
    guard try await store.load()?.isFinished != true else { return .complete(report) }
    if completed.request.direction == .back {
      try await rollbackCleanUp()
    } else {
      try await sourceCleanup.run()
    }
    try await settlement(completed.request.direction).makeAll()
    return .complete(report)
  }

  private var sourceCleanup: SourceCleanup {
    SourceCleanup(
      address: options.source, source: ends.source, slot: slot,
      publication: Publication(name: migration.publication), store: store, logger: logger)
  }

  private func settlement(_ direction: Direction) -> Settlement {
    Settlement(direction: direction, source: ends.source, target: ends.target, logger: logger)
  }

  /// As after a cutover: what the stream needed goes. The target's guard stays.
  private func rollbackCleanUp() async throws {
    try await ReverseReplication(
      options: options, ends: ends, excluded: Set(migration.excluded), logger: logger
    ).remove()
  }

  private func streaming() async throws -> StreamPhase {
    let session = try await streamSession()
    let cutover = CutoverPhase(
      options: options, logger: logger, ends: ends, board: board, phase: phase,
      publication: Publication(name: migration.publication),
      tables: MigratedTables(excluded: Set(migration.excluded)), monitor: session.monitor,
      refusedSchema: newTables.unmade)
    return StreamPhase(
      options: options, logger: logger, ends: ends, board: board, phase: phase, cutover: cutover,
      cleanup: sourceCleanup, session: session, newTables: newTables)
  }

  /// Relations that are migrated: those that were not excluded.
  private func relations() async throws -> [Relation] {
    let excluded = Set(migration.excluded)
    return try await Catalog.read(from: ends.source).relations.filter { !excluded.contains($0.name) }
  }

  /// The same as they are under a snapshot, or now.
  private func relations(under snapshot: ExportedSnapshot?) async throws -> [Relation] {
    guard let snapshot else { return try await relations() }
    let excluded = Set(migration.excluded)
    let session = try await Session.open(options.source, end: "source", purpose: "catalog")
    return try await closing(session) {
      try await snapshot.enter(session)
      return try await Catalog.read(from: session).relations.filter { !excluded.contains($0.name) }
    }
  }

  // MARK: Schema

  /// - Returns: the snapshot at the slot's beginning; nil when the slot is there from an earlier attempt.
  private func transferSchema() async throws -> ExportedSnapshot? {
    try await SourceState(ends.source).create()
    if options.setsReplicaIdentityFull {
      try await FullIdentity.set(
        on: try await relations().filter { $0.kind == .table && !$0.isUnlogged }, source: ends.source)
    }
    let relations = try await relations()
    try await Publication(name: migration.publication).ensure(relations, on: ends.source)
    var snapshot: ExportedSnapshot?
    if try await store.progress() == nil {
      // One that an earlier attempt made and could not note any more.
      try await slot.drop(on: ends.source)
      let created = try await slot.create(on: options.source, observer: ends.source)
      try await store.beginProgress(at: created.lsn)
      logger.info("created slot \(slot.name)", metadata: ["at": "\(created.lsn)"])
      snapshot = created
    }
    do {
      if options.createsRoles {
        let made = try await MissingRoles.create(
          source: ends.source, target: ends.target, options.target, publication: migration.publication)
        if !made.roles.isEmpty {
          logger.info("made roles on the target", metadata: ["roles": "\(made.roles)"])
        }
        for setting in made.leftOut {
          logger.warning("a setting of a role was left out", metadata: ["statement": "\(setting)"])
        }
      }
      // Those that the dump has: what is created later joins later.
      let dumped = try await self.relations(under: snapshot)
      if let snapshot {
        try await snapshot.telling { try await archive.dump(under: snapshot.name) }
      } else {
        try await archive.dump(under: nil)
      }
      try await restore(.preData)
      try await FullIdentity.restore(notedOn: ends.source, on: ends.target)
      try await IdentityColumns.relax(Catalog(relations: dumped), on: ends.target)
      try await store.register(dumped.filter { $0.kind == .table && !$0.isUnlogged })
    } catch {
      await snapshot?.release()
      throw error
    }
    return snapshot
  }

  private func restore(_ section: SchemaSection) async throws {
    let isFresh = await !archive.exists
    if isFresh, section != .preData { try await dumpAnew() }
    do {
      try await restoreOnce(section, leaving: isFresh ? .all : .data)
    } catch let error as MigrationError where section != .preData && !isFresh && !error.mayPass {
      // What it names may have been dropped or renamed on both ends since it was dumped.
      logger.info(
        "restoring the schema's \(section.rawValue) again, as they are now",
        metadata: ["because": "\(error.reason)"])
      try await dumpAnew()
      try await restoreOnce(section, leaving: .all)
    }
  }

  /// The schema as it is now. Tables that the target lacks will join with all that belongs to them.
  private func dumpAnew() async throws {
    let present = Set(try await Catalog.read(from: ends.target, measuring: false).relations.map(\.name))
    let source = try await Catalog.read(from: ends.source, measuring: false).relations
    try await archive.dump(under: nil, without: source.map(\.name).filter { !present.contains($0) })
  }

  private func restoreOnce(_ section: SchemaSection, leaving: SchemaTransfer.Leaving) async throws {
    let again = try await store.load()?.restoreAttempted.contains(section.rawValue) ?? false
    if !again { try await store.noteRestoreAttempt(of: section.rawValue) }
    let left = try await schema.restore(
      section, from: try await archive.file(), again: again, keeping: migration.targetBefore,
      source: ends.source, target: ends.target, leaving: leaving)
    try await unmade.keep(left)
  }

  // MARK: Index

  private func buildIndexes() async throws {
    try await restore(.indexes)
    // The target's tables: the source may have more by now.
    let relations = try await Catalog.read(from: ends.target).relations
    try await PlannerStatistics.refresh(
      relations, on: options.target, workers: options.jobs,
      under: try await UserSettings.read(from: ends.source, usableOn: ends.target))
  }

  // MARK: Catch-up

  private func catchUp() async throws {
    let session = try await streamSession()
    try await settle(session)
    // Now all tables stand at one LSN, and foreign keys can hold.
    try await restore(.constraints)
    try await FullIdentity.setWherePublished(on: ends.target)
    for refusal in try await schema.restorePublicSchema(
      from: try await archive.file(), source: ends.source)
    {
      logger.warning(
        "the target refused a property of schema public",
        metadata: ["what": "\(refusal.name)", "why": "\(refusal.refusal.reason)"])
    }
    try await DatabaseProperties.read(from: ends.source).apply(to: ends.target, options.target) {
      step, reason in
      logger.warning(
        "the target refused a property of the database",
        metadata: ["statement": "\(step.name)", "why": "\(reason)"])
    }
    try await TargetFence(ends.target).close()
    // What fails is tried again by each cutover, which is refused while users would miss rows.
    for failure in try await MaterializedViews.refresh(from: ends.source, to: ends.target, options.target) {
      logger.warning("\(failure.words)", metadata: ["remedy": "\(failure.remedy)"])
      try await store.note(failure.words)
    }
  }

  /// How often it is looked whether a table can be copied that could not before.
  private static let settlingPause = Duration.seconds(2)

  /// Streams until all tables are at one LSN. Those that were created meanwhile join, and those that became
  /// others are copied again.
  private func settle(_ session: (stream: StreamSession, monitor: StreamMonitor)) async throws {
    let newTables = newTables
    while true {
      do {
        let stored = try await store.relations()
        let newest = stored.compactMap(\.snapshotLSN).max() ?? .zero
        if session.monitor.reading.feedback.confirmableLSN < newest {
          try await session.stream.run(until: newest)
        }
        let found = try await newTables.findDefined(session.monitor)
        try await newTables.setAside(found.outdated)
        if !found.new.isEmpty || !found.again.isEmpty {
          try await newTables.prepare(found)
          let snapshot = try await newTables.snapshotAtLast(session.monitor)
          try await newTables.join(found, under: snapshot, session.monitor) {
            try await session.stream.run(until: $0)
          }
          try await TargetFence(ends.target).close()
        } else if found.outdated.isEmpty {
          // What cannot join is told again while the stream runs; what is not copied any more must be.
          let present = Set(try await Catalog.read(from: ends.source, measuring: false).relations.map(\.oid))
          let isMissing = stored.contains {
            $0.snapshotLSN == nil && present.contains($0.sourceOID) && !refused.holds($0.sourceOID)
          }
          if !isMissing { return }
          try await Task.sleep(for: Self.settlingPause)
        }
      } catch let outdated as OutdatedTable {
        try await newTables.setAside(try await newTables.outdated(outdated))
      }
    }
  }

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
      source: options.source, target: options.target, slot: slot.name, publication: migration.publication,
      tables: streamTables, monitor: monitor, logger: logger)
    return (stream, monitor)
  }

  /// What both ends have now, on connections of its own: the stream asks while others work.
  @Sendable private func streamTables() async throws -> StreamTables {
    let source = try await Session.open(options.source, end: "source", purpose: "catalog")
    let target = try await Session.open(options.target, end: "target", purpose: "catalog")
    return try await closing(source, target) {
      try await MigratedTables(excluded: Set(migration.excluded)).streamed(source: source, target: target)
    }
  }
}

/// The phase, in memory and in the target.
actor PhaseRecord {
  private var phases: PhaseMachine
  private let store: StateStore
  private let board: StatusBoard

  init(_ phase: Phase, _ store: StateStore, _ board: StatusBoard) {
    phases = PhaseMachine(phase: phase)
    self.store = store
    self.board = board
  }

  var current: Phase { phases.phase }

  func resume() -> PhaseMachine.Action { phases.resume() }

  /// Stores the phase that an event leads to, before anything is done in it.
  @discardableResult
  func advance(_ event: PhaseMachine.Event) async throws -> PhaseMachine.Action {
    var next = phases
    let action = try next.handle(event)
    try await store.store(next.phase)
    phases = next
    let phase = next.phase
    board.update { $0.phase = phase }
    return action
  }

  /// Stores how a cutover ended, and in the same commit the phase that an event leads to.
  func end(_ cutover: CutoverEnd, _ event: PhaseMachine.Event?) async throws {
    var next = phases
    var end = cutover
    if let event {
      _ = try next.handle(event)
      end.phase = next.phase
    }
    board.unstored.keep(end)
    guard try await board.unstored.store(in: store) else {
      throw MigrationError(
        .failed, doing: "storing how the cutover ended", reason: "the target's state has it as ended already",
        remedy: "Another engine may have done so: look at replicate status, then run replicate start.")
    }
    phases = next
    let phase = next.phase
    board.update { $0.phase = phase }
  }
}
