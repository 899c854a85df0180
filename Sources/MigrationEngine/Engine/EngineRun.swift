import Foundation
import LibPQ
import Logging
import LogicalReplication

/// One run of the engine: from taking the lock to the end of its work or the loss of a connection. It walks
/// through the phases in the order `PhaseMachine` gives; everything it knows is stored on the target.
struct EngineRun: Sendable {
  static let publicationName = "replicate"

  let options: MigrationOptions
  let logger: Logger
  let unstored: PendingCutoverResult
  /// Why the previous run ended; nil for the first.
  var hindrance: Hindrance?
  let onProgress: @Sendable (Status) -> Void
  let onFindings: @Sendable (PreflightReport) -> Void

  /// - Returns: nil when the migration has changed direction, and continues with another run.
  /// - Throws: `ConnectionLoss` when another run may help; `MigrationError` or `PostgresError` when it
  ///   cannot.
  func proceed() async throws -> Migration.Outcome? {
    if options.isSourceLost {
      return .complete(
        try await SourceLoss(options: options, logger: logger, onProgress: onProgress)
          .runForced())
    }
    if let hindrance {
      try await HindranceWait(options: options, logger: logger, onProgress: onProgress).wait(for: hindrance)
    }
    let ends: Endpoints
    do {
      ends = try await Endpoints.open(options, purpose: "engine")
    } catch let error as PostgresError {
      if let report = try await finishWithoutSource(error) { return .complete(report) }
      guard error.isConnectionLoss else { throw error }
      throw ConnectionLoss(error: error, wasConnected: false)
    }
    let result: Result<Migration.Outcome?, any Error>
    do {
      result = .success(try await work(ends))
    } catch {
      result = .failure(await classify(error, ends))
    }
    await ends.close()
    return try result.get()
  }

  /// What the target can finish of a cutover without the source.
  /// - Returns: nil when there is nothing of the kind.
  private func finishWithoutSource(_ loss: PostgresError) async throws -> Status.Cutover? {
    do {
      return try await SourceLoss(options: options, logger: logger, onProgress: onProgress).openTarget(
        after: loss)
    } catch let error as PostgresError where error.isConnectionLoss {
      guard loss.isConnectionLoss else { throw loss }
      throw ConnectionLoss(error: error, wasConnected: false)
    }
  }

  private func work(_ ends: Endpoints) async throws -> Migration.Outcome? {
    // The lock's connection only reports and polls, so that its loss is noticed at once.
    let control = try await Session.open(options.target, end: "target", purpose: "control")
    let store = StateStore(control)
    do {
      // The status must not wait for a standby of the target.
      try await control.query("SET synchronous_commit = local", doing: "preparing the engine's status")
      guard try await store.tryLock() else { throw await anotherEngine(store) }
      // Before the state is used: this changes the phase.
      if try await unstored.store(in: store) { logger.info("stored how the last cutover ended") }
      let migration = try await begin(ends, StateStore(ends.target))
      let result = try await conduct(migration, ends, store)
      await control.close()
      return result
    } catch {
      if (error as? MigrationError)?.kind != .anotherEngine {
        if !Task.isCancelled { unstored.explain(by: error) }
        await storeEnd(store)
        if !Task.isCancelled { await noteFailure(error, store) }
      }
      await control.close()
      throw error
    }
  }

  private func conduct(
    _ migration: StoredMigration, _ ends: Endpoints, _ control: StateStore
  ) async throws -> Migration.Outcome? {
    let direction: Direction = migration.phase == .reverse ? .back : .forward
    var status = Status(phase: migration.phase)
    status.engine = .thisProcess
    status.target.encryption = migration.encryption
    status.slot.name = migration.slot
    if direction == .back, let way = try await StateStore(ends.target).reverseReplication() {
      status.slot.name = way.slot
    }
    try await ends.describe(&status)
    let board = StatusBoard(status, unstored: unstored, hindrance: hindrance?.words)
    if migration.phase == .cutover,
      try await StateStore(ends.target).latestCutover()?.report?.seal == .stands
    {
      board.endNeedOfSource()
    }
    let phases = try EnginePhases(
      options: options, logger: logger, ends: ends, board: board, migration: migration)
    let runner = PhaseRunner(phase: phases.phase, work: phases, logger: logger)
    let ticker = Heartbeat(
      source: direction == .forward ? options.source : options.target, direction: direction,
      receiver: direction == .forward ? nil : options.source, control: control, board: board, logger: logger,
      onProgress: onProgress)
    return try await withThrowingTaskGroup(of: PhaseRunner.End?.self) { group in
      group.addTask { try await runner.run() }
      group.addTask {
        try await ticker.beat()
        return nil
      }
      defer { group.cancelAll() }
      let end = try await group.next() ?? nil
      group.cancelAll()
      // The final status is what the stages left.
      board.update { $0.engine.running = false }
      try await control.publish(board.status)
      onProgress(board.status)
      switch end {
      case .outcome(let outcome): return outcome
      case .turned: return nil
      case nil: return .stopped
      }
    }
  }

  // MARK: Beginning

  /// The stored migration of this source, or a new one once preflight lets it pass.
  private func begin(_ ends: Endpoints, _ store: StateStore) async throws -> StoredMigration {
    guard var migration = try await store.load() else { return try await beginNew(ends, store) }
    try verify(migration, belongsTo: ends.sourceIdentity)
    try await ends.verifyTakeWrites()
    let preflight = PreflightPhase(options: options, ends: ends, logger: logger)
    if ![.complete, .reverse].contains(migration.phase) {
      let (evidence, findings) = try await preflight.encryption()
      if findings.contains(where: { $0.severity == .blocker }) {
        throw blocked(PreflightReport(findings: findings))
      }
      migration.encryption = evidence
      try await store.store(encryption: evidence)
    }
    try await Self.endLeftovers(on: ends.target)
    try await Self.endLeftovers(on: ends.source)
    try await store.note("an engine continues, \(Self.whoAndHow(options))")
    try await store.store(failure: nil)
    logger.info("resuming the migration", metadata: ["phase": "\(migration.phase.rawValue)"])
    return migration
  }

  private func beginNew(_ ends: Endpoints, _ store: StateStore) async throws -> StoredMigration {
    let preflight = try await PreflightPhase(options: options, ends: ends, logger: logger).examine(
      isResuming: false)
    onFindings(preflight.report)
    if preflight.report.isBlocked { throw blocked(preflight.report) }
    var phases = PhaseMachine(phase: .preflight)
    _ = try phases.handle(.preflightPassed)
    let migration = StoredMigration(
      phase: phases.phase, sourceSystem: try ends.sourceIdentity.knownSystem(),
      sourceDatabase: "\(ends.sourceIdentity.oid) \(ends.sourceIdentity.name)",
      slot: ends.sourceIdentity.slotName, publication: Self.publicationName,
      excluded: options.excluded, targetBefore: try await TargetData.present(on: ends.target),
      encryption: preflight.encryption, failure: nil, isAbortRequested: false,
      restoreAttempted: [],
      copySeconds: 0)
    try await store.create(migration)
    try await store.note("begun \(Self.whoAndHow(options))")
    for finding in preflight.report.findings where finding.severity == .warning {
      try await store.note("warning of preflight: \(finding.object): \(finding.why)")
    }
    return migration
  }

  /// Who began, and which options they gave beyond the defaults.
  private static func whoAndHow(_ options: MigrationOptions) -> String {
    let process = ProcessInfo.processInfo
    var overrides: [String] = []
    if options.allowsUnencryptedTarget { overrides.append("--allow-unencrypted-target") }
    if options.setsReplicaIdentityFull { overrides.append("--replica-identity full") }
    if options.leavesLargeObjectsBehind { overrides.append("--without-large-objects") }
    if options.createsRoles { overrides.append("--create-roles") }
    if !options.replicatesBack { overrides.append("--no-reverse") }
    if options.cutover == .auto { overrides.append("--cutover auto") }
    overrides += options.acceptedDifferences.map { "--accept-difference '\($0)'" }
    overrides += options.excluded.map { "--exclude-table \($0)" }
    let how = overrides.isEmpty ? "" : ", with \(overrides.joined(separator: ", "))"
    return "by \(process.userName) on \(process.hostName), process \(process.processIdentifier)\(how)"
  }

  private func verify(_ migration: StoredMigration, belongsTo source: DatabaseIdentity) throws {
    let action = "resuming the migration that the target holds"
    let system = try source.knownSystem()
    guard migration.sourceSystem == system, migration.slot == source.slotName else {
      throw MigrationError(
        .usage, doing: action, reason: "it belongs to another source database (\(migration.sourceDatabase))",
        remedy: "Give the source that it began with, or another target.")
    }
    if migration.phase == .aborted || migration.isAbortRequested {
      throw MigrationError(
        .usage, doing: action, reason: "it was aborted",
        remedy: "Clear the target with replicate abort --drop-target-data, then start again.")
    }
  }

  private func blocked(_ report: PreflightReport) -> MigrationError {
    let blockers = report.findings.filter { $0.severity == .blocker }
    return MigrationError(
      .blocked, doing: "preflight",
      reason: blockers.map { "\($0.object): \($0.why)" }.joined(separator: "\n  "),
      remedy: blockers.map(\.remedy).joined(separator: "\n  "))
  }

  /// Sessions of a killed engine may still hold locks on tables that this one needs, or be about to commit a
  /// step of a cutover. We hold its lock, so it is dead.
  static func endLeftovers(on end: Connection) async throws {
    try await end.query(
      """
      SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
      WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
        AND application_name IN
          ('replicate copy', 'replicate restore', 'replicate analyze', 'replicate refresh', 'replicate apply',
            'replicate confirm', 'replicate verify', 'replicate cutover')
      """, doing: "ending the sessions of an earlier engine", within: .seconds(15))
  }

  // MARK: Errors

  private func anotherEngine(_ store: StateStore) async -> MigrationError {
    var who = "its status cannot be read"
    do {
      if let engine = try await store.publishedStatus()?.status.engine {
        who =
          "it last spoke \(Int(engine.heartbeatAgeSeconds)) s ago as process \(engine.pid) on \(engine.host)"
      }
    } catch {
      logger.debug("no status of the other engine", metadata: ["why": "\(error)"])
    }
    return MigrationError(
      .anotherEngine, doing: "taking the engine's lock on the target",
      reason: "another engine holds this migration: \(who)",
      remedy: "Stop that engine, or follow it with replicate status --watch.")
  }

  /// Whether the error came from a lost connection, perhaps that of a PostgreSQL client program.
  private func classify(_ error: any Error, _ ends: Endpoints) async -> any Error {
    var error = await classifyLoss(error, ends)
    guard !Task.isCancelled, (error as? MigrationError).map({ $0.kind == .failed }) ?? true,
      await isAfterSeal(ends)
    else { return ConnectionLoss.passing(error) ?? error }
    if let loss = error as? ConnectionLoss { error = loss.error }
    return ConnectionLoss(error: error, wasConnected: true, isAfterSeal: true)
  }

  /// The end being left is sealed and the other is not open yet, or the steps that move the application there
  /// are not all done: an engine that gave up would leave users with nothing to write to.
  private func isAfterSeal(_ ends: Endpoints) async -> Bool {
    do {
      let store = StateStore(ends.target)
      guard let migration = try await store.load(), !migration.isAbortRequested,
        let latest = try await store.latestCutover(), latest.state == .running
      else { return false }
      switch (migration.phase, latest.request.direction) {
      case (.cutover, .forward):
        if latest.report?.seal == .stands { return true }
        return try await SourceState(ends.source).fence() == .sealed
      case (.reverse, .back): return try await SourceState(ends.target).fence() == .sealed
      default: return false
      }
    } catch {
      logger.debug("it is not known whether the source is sealed", metadata: ["why": "\(error)"])
      return false
    }
  }

  private func classifyLoss(_ error: any Error, _ ends: Endpoints) async -> any Error {
    if Task.isCancelled { return error }
    if let error = error as? PostgresError, error.isConnectionLoss {
      return ConnectionLoss(error: error, wasConnected: true)
    }
    if let loss = error as? SnapshotLoss { return ConnectionLoss(error: loss.error, wasConnected: true) }
    if let error = error as? MigrationError, error.kind != .failed { return error }
    for connection in [ends.source, ends.target] {
      do {
        try await connection.query("SELECT", doing: "asking whether the server is there", within: .seconds(5))
      } catch let loss as PostgresError where loss.isConnectionLoss {
        return ConnectionLoss(error: error, wasConnected: true)
      } catch {
        logger.debug("the server answers with an error", metadata: ["error": "\(error)"])
      }
    }
    return error
  }

  /// Those who follow a cutover must learn how it ended, even from an engine that was asked to stop.
  private func storeEnd(_ store: StateStore) async {
    do {
      _ = try await Task { [unstored] in try await unstored.store(in: store) }.value
    } catch {
      logger.warning("could not store yet how the cutover ended", metadata: ["why": "\(error)"])
    }
  }

  /// For `replicate status`, on whatever machine it runs.
  private func noteFailure(_ error: any Error, _ store: StateStore) async {
    do {
      guard try await store.load() != nil else { return }
      try await store.store(failure: "\(error)")
    } catch let second {
      logger.warning(
        "could not store why the engine stopped", metadata: ["why": "\(second)", "error": "\(error)"])
    }
  }
}
