package import LibPQ
package import Logging
import LogicalReplication

/// The options of `abort`.
package struct AbortOptions: Sendable {
  /// Also drop what the migration brought to the target, its state included.
  var dropsTargetData: Bool

  /// - Parameter dropsTargetData: also drops what the migration brought to the target.
  package init(dropsTargetData: Bool) { self.dropsTargetData = dropsTargetData }
}

/// Undoes a migration: nothing of it stays on the source, and on the target only what the user wants to keep.
package struct MigrationAbort: Sendable {
  private let source: ConnectionString
  private let target: ConnectionString
  private let logger: Logger

  /// Connects to nothing yet.
  package init(source: ConnectionString, target: ConnectionString, logger: Logger) {
    self.source = source
    self.target = target
    self.logger = logger
  }

  /// - Returns: what was removed, and what could not be, with the command that removes it.
  /// - Throws: `MigrationError` with kind `.usage` after the seal.
  package func abort(_ options: AbortOptions) async throws -> (removed: [String], left: [String]) {
    let ends = try await Endpoints.open(
      MigrationOptions(source: source, target: target), purpose: "abort")
    return try await finally(ends.close) { try await undo(options, ends) }
  }

  private func undo(_ options: AbortOptions, _ ends: Endpoints) async throws -> (
    removed: [String], left: [String]
  ) {
    let store = StateStore(ends.target)
    let hasState = try await verify(ends, store) != nil
    await Failpoint.reached("before stopping the engine")
    try await stopEngine(store, hasState: hasState)
    // Until it stopped it continued, perhaps with a cutover.
    let migration = try await verify(ends, store, meanwhile: true)
    try await takeDownFence(ends, store)
    var cleanup = Cleanup(logger: logger)
    if migration != nil { cleanup.left += try await pausedPoolers(store) }
    try await cleanup.clean(ends.source, of: ends.sourceIdentity, migration)
    try await cleanTarget(ends, options, migration, &cleanup)
    return (cleanup.removed, cleanup.left)
  }

  /// - Parameter meanwhile: whether it could be aborted when that was requested.
  /// - Returns: the stored migration.
  /// - Throws: `MigrationError` when it cannot, or can no longer, be aborted.
  private func verify(
    _ ends: Endpoints, _ store: StateStore, meanwhile: Bool = false
  ) async throws -> StoredMigration? {
    let migration = try await store.load()
    if let migration {
      let source = ends.sourceIdentity
      let system = try source.knownSystem()
      guard migration.slot == source.slotName, migration.sourceSystem == system else {
        throw refusal(
          "the target's migration is of another source database (\(migration.sourceDatabase))",
          "Give the source that it began with.")
      }
      if [.complete, .reverse].contains(migration.phase) {
        try await store.withdrawAbort()
        throw meanwhile ? Self.overtaken : refusal("it is complete", "There is nothing to abort.")
      }
    }
    if try await SourceState(ends.source).fence() == .sealed {
      if migration != nil { try await store.withdrawAbort() }
      guard !meanwhile else { throw Self.overtaken }
      throw refusal(
        "the source is sealed: its successor may have taken writes",
        "There is no way back through abort. Run replicate start to finish the cutover.")
    }
    return migration
  }

  private func refusal(_ reason: String, _ remedy: String) -> MigrationError {
    MigrationError(.usage, doing: "aborting the migration", reason: reason, remedy: remedy)
  }

  private static let overtaken = MigrationError(
    .usage, doing: "aborting the migration",
    reason: "the cutover was sealed meanwhile: the target may have taken writes, and the source takes none",
    remedy: "Nothing was removed. The engine was stopped: run replicate start, which finishes the cutover.")

  /// First of all: what is removed later protects a sealed source from writes.
  private func takeDownFence(_ ends: Endpoints, _ store: StateStore) async throws {
    guard try await SourceState(ends.source).fence() != nil else { return }
    do {
      try await WriteFence(ends.source).unfence()
    } catch is WriteFence.Sealed {
      // By a commit that was in flight when its engine died.
      if try await store.load() != nil { try await store.withdrawAbort() }
      throw Self.overtaken
    }
  }

  /// Asks a running engine to stop and takes its lock, so that no other starts.
  private func stopEngine(_ store: StateStore, hasState: Bool) async throws {
    if hasState { try await store.requestAbort() }
    try await store.takeLock(thenRun: "replicate abort")
  }

  /// A killed engine may have left clients waiting; only its plan says where their poolers are.
  private func pausedPoolers(_ store: StateStore) async throws -> [String] {
    guard let latest = try await store.latestCutover() else { return [] }
    return try await SwitchLog(store: store, cutover: latest.id).paused().map {
      "clients that may wait in \($0): RESUME on its admin console"
    }
  }

  private func cleanTarget(
    _ ends: Endpoints, _ options: AbortOptions, _ migration: StoredMigration?,
    _ cleanup: inout Cleanup
  ) async throws {
    guard let migration else { return }
    let target = ends.target
    await cleanup.attempt(
      "slot and publication of the way back on the target",
      "SELECT pg_drop_replication_slot(…); DROP PUBLICATION \(ReverseReplication.publicationName)"
    ) {
      guard let way = try await StateStore(target).reverseReplication() else { return }
      try await ReverseReplication.removePublished(way, from: target)
      try await StateStore(target).forgetReverseReplication()
    }
    if options.dropsTargetData {
      await cleanup.attempt("the migrated schemas on the target", "dropdb and createdb of the target") {
        try await TargetData.drop(on: target, keeping: migration.targetBefore)
      }
      // The state goes last: while it is there, an abort can be run again.
      guard cleanup.left.isEmpty else { return }
      await cleanup.attempt("schema replicate on the target", "DROP SCHEMA replicate CASCADE") {
        try await target.query(
          "DROP SCHEMA replicate CASCADE", doing: "dropping schema replicate on the target",
          within: .seconds(30))
      }
    } else {
      await cleanup.attempt("closed door of the target's tables", "DROP FUNCTION replicate.closed() CASCADE")
      {
        try await TargetFence(target).remove()
      }
      var phases = PhaseMachine(phase: migration.phase)
      if phases.phase != .aborted { _ = try phases.handle(.abortRequested) }
      try await StateStore(target).store(phases)
      logger.notice(
        "kept on the target: the migrated tables and schema replicate (--drop-target-data drops them)")
    }
  }
}
