import LibPQ
import Logging
import LogicalReplication
import Synchronization

/// The parts of the schema that the target's server refused: they are reported, and retried, while the stream
/// continues. Fixes on the source arrive through the stream.
struct RefusedSchema: PhasePart {
  let context: PhaseContext
  let publication: Publication
  let pace: RefusedSchemaPace

  private var objects: UnmadeObjects { UnmadeObjects(source: ends.source, target: ends.target) }
  private var transfer: SchemaTransfer {
    SchemaTransfer(target: options.target, publication: publication.name, jobs: options.jobs)
  }

  /// Records what was refused. A table whose replica identity could not be built is emptied and copied again:
  /// its rows cannot be identified, and on an empty table the index can be built.
  func keep(_ refused: [RefusedEntry]) async throws {
    guard !refused.isEmpty else { return }
    let unmade = try await objects.describe(refused)
    try await store.store(unmade: unmade)
    for object in unmade {
      logger.warning(
        "the target refuses a part of the schema, and the rest continues",
        metadata: ["object": "\(object.name)", "because": "\(object.reason)", "remedy": "\(object.remedy)"])
      try await store.note("\(object.name) could not be made on the target: \(object.reason)")
    }
    let identified = unmade.compactMap(\.identifies)
    guard !identified.isEmpty else { return }
    try await setAside(Set(identified))
    try await tryAgain(unmade.filter { $0.identifies != nil })
  }

  private func setAside(_ tables: Set<UInt32>) async throws {
    let source = try await Catalog.read(from: ends.source, measuring: false).relations
    let target = try await Catalog.read(from: ends.target, measuring: false).relations
    let stored = try await store.relations().filter { tables.contains($0.sourceOID) }
    for table in Lineages(stored, source: source, target: target).tables {
      guard let there = table.target else { continue }
      logger.warning(
        "a table is copied again, since its replica identity could not be built on the target",
        metadata: ["table": "\(table.source.name)"])
      try await store.setAside(table.source.oid, there.name)
    }
  }

  /// Reports what is missing and was not accepted.
  func report(_ monitor: StreamMonitor) async throws {
    let unmade = try await store.unmade()
    monitor.watch(Set(unmade.flatMap(\.tables)))
    // An automatic cutover goes by the engine's options.
    let accepted = Set(options.acceptedDifferences)
    let reported = unmade.filter { !accepted.contains($0.name) }
    monitor.misses(reported.isEmpty ? nil : reported.map(\.words).joined(separator: "\n"))
  }

  /// Retries what is due. The stream may run: it waits for the locks.
  func retry(_ monitor: StreamMonitor) async throws {
    let changed = monitor.takeChanged()
    guard pace.isDue(changed: !changed.isEmpty) else { return }
    let unmade = try await store.unmade()
    if !unmade.isEmpty {
      let began = ContinuousClock.now
      do {
        try await tryAgain(unmade)
      } catch let error as MigrationError {
        logger.warning("the schema could not be read for a retry", metadata: ["why": "\(error)"])
      }
      pace.tried(took: .now - began)
    }
    try await report(monitor)
  }

  private func tryAgain(_ unmade: [UnmadeObject]) async throws {
    let (present, names) = try await objects.present(unmade)
    let gone = unmade.filter { !present.contains($0) }
    if !gone.isEmpty {
      logger.info("the source no longer has it", metadata: ["objects": "\(gone.map(\.name))"])
      try await store.forget(unmade: gone)
    }
    guard !present.isEmpty else { return }
    let needsAll = present.contains { $0.tables.isEmpty }
    let archive = SchemaArchive(source: options.source, only: needsAll ? [] : names)
    func remove() async { await archive.remove() }
    let (found, refused) = try await finally(remove) {
      try await archive.dump(under: nil)
      return try await transfer.restoreRefused(from: try await archive.file(), source: ends.source) { entry in
        present.contains { $0.isOf(entry) }
      }
    }
    let made = present.filter { object in !refused.contains { object.isOf($0.entry) } }
    for object in made where found.contains(where: object.isOf) {
      logger.notice("the target has it after all", metadata: ["object": "\(object.name)"])
    }
    try await store.forget(unmade: made)
    // What failed on another session's lock is unchanged.
    let again = refused.filter { !$0.error.isLockConflict }
    try await store.store(
      unmade: try await objects.describe(again))
  }

  /// Before a cutover: an accepted foreign key is created NOT VALID, so that it holds for new rows.
  /// - Throws: `MigrationError` that names what is missing and was not accepted.
  func ensure(accepted: [String]) async throws {
    let unmade = try await store.unmade()
    let refused = unmade.filter { !accepted.contains($0.name) }
    guard refused.isEmpty else {
      throw MigrationError(
        .failed, doing: "looking for what of the schema is missing on the target",
        reason: refused.map(\.words).joined(separator: "\n  "),
        remedy: """
          Fix it, or accept it by its name; a foreign key is then created NOT VALID, for new rows: \
          \(refused.map { "--accept-difference \(SQL.shellQuoted($0.name))" }.joined(separator: " "))
          """)
    }
    for object in unmade where object.isForeignKey {
      try await makeNotValid(object)
    }
  }

  private func makeNotValid(_ key: UnmadeObject) async throws {
    guard let statement = try await objects.notValid(key) else { return }
    try await LockRetry.execute(
      statement, on: ends.target, doing: "making \(key.name) NOT VALID on the target", within: .seconds(30))
    logger.notice(
      "a foreign key is NOT VALID on the target, as accepted", metadata: ["object": "\(key.name)"])
    try await store.forget(unmade: [key])
  }
}

extension UnmadeObject {
  func isOf(_ entry: SchemaEntry) -> Bool {
    entry.id.oid == oid && entry.id.classOID == classOID && (oid != 0 || entry.description == self.entry)
  }
}

/// When to retry what was refused.
final class RefusedSchemaPace: Sendable {
  private let state = Mutex((next: ContinuousClock.now, soonest: ContinuousClock.now, tries: 0))

  private static let longestPause = Duration.seconds(60)

  func isDue(changed: Bool) -> Bool {
    state.withLock { state in
      if changed { state.next = min(state.next, max(.now, state.soonest)) }
      return state.next <= .now
    }
  }

  /// A try holds up the stream, so it gets a small part of the time.
  func tried(took: Duration) {
    state.withLock { state in
      state.tries = min(state.tries + 1, 5)
      state.soonest = .now + took * 5
      state.next = .now + max(min(.seconds(2) * (1 << state.tries), Self.longestPause), took * 20)
    }
  }
}
