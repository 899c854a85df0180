import LibPQ
import Logging

/// Restores the parts of the source's schema, each in its phase. What the target's server refuses is
/// reported, and retried while the stream runs.
struct SchemaRestoration: PhasePart {
  let context: PhaseContext
  let archive: SchemaArchive
  let migration: StoredMigration
  let refusedSchema: RefusedSchema

  var schema: SchemaTransfer {
    SchemaTransfer(target: options.target, publication: migration.publication, jobs: options.jobs)
  }

  func restore(_ section: SchemaSection) async throws {
    let isFresh = await !archive.exists
    if isFresh, section != .preData { try await dumpAnew() }
    do {
      try await restoreOnce(section, leaving: isFresh ? .all : .data)
    } catch let error as MigrationError where section != .preData && !isFresh && !error.mayPass {
      // It may refer to objects dropped or renamed on both ends since the dump.
      logger.info(
        "restoring the schema's \(section.rawValue) again, as they are now",
        metadata: ["because": "\(error.reason)"])
      try await dumpAnew()
      try await restoreOnce(section, leaving: .all)
    }
  }

  /// The schema as it is now. Tables that the target lacks will join with everything that belongs to them.
  private func dumpAnew() async throws {
    let present = Set(try await Catalog.read(from: ends.target, measuring: false).relations.map(\.name))
    let source = try await Catalog.read(from: ends.source, measuring: false).relations
    try await archive.dump(under: nil, without: source.map(\.name).filter { !present.contains($0) })
  }

  private func restoreOnce(_ section: SchemaSection, leaving: SchemaTransfer.Leaving) async throws {
    let again = try await store.load()?.restoreAttempted.contains(section.rawValue) ?? false
    if !again { try await store.noteRestoreAttempt(of: section.rawValue) }
    let restored = try await schema.restore(
      section, from: try await archive.file(), replacingAllBut: again ? migration.targetBefore : nil,
      source: ends.source, target: ends.target, leaving: leaving)
    if !restored.leftOut.isEmpty {
      logger.warning(
        "left out: it belongs to another role on the target", metadata: ["what": "\(restored.leftOut)"])
      for what in restored.leftOut { try await store.note("left out on the target: \(what)") }
    }
    try await refusedSchema.keep(restored.refused)
  }
}
