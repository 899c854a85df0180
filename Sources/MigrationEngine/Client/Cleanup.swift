import LibPQ
import Logging
import LogicalReplication

/// Removes what a migration has left, piece by piece. Records what was removed and what could not be, and
/// continues: one failure must not keep the rest.
struct Cleanup {
  let logger: Logger
  private(set) var removed: [String] = []
  var left: [String] = []

  init(logger: Logger) { self.logger = logger }

  mutating func attempt(_ what: String, _ command: String, _ body: () async throws -> Void) async {
    do {
      try await body()
      removed.append(what)
    } catch {
      logger.error("could not remove \(what)", metadata: ["why": "\(error)"])
      left.append("\(what): \(command)")
    }
  }

  /// Leaves no trace of a migration on the source.
  /// - Parameter migration: what the target has stored about it.
  mutating func clean(
    _ source: Connection, of identity: DatabaseIdentity, _ migration: StoredMigration?
  ) async throws {
    let hasSchema = try await SourceState(source).fence() != nil
    // Only what is ours: without state on either end, a slot of this name is somebody else's.
    guard migration != nil || hasSchema else { return }
    let publication = migration?.publication ?? EngineRun.publicationName
    if hasSchema {
      await attempt("fence and its triggers on the source", "DROP FUNCTION replicate.guard() CASCADE") {
        try await WriteFence(source).remove()
      }
    }
    await attempt(
      "publication \(SQL.identifier(publication)) on the source",
      "DROP PUBLICATION \(SQL.identifier(publication))"
    ) { try await Publication(name: publication).drop(on: source) }
    // Only after the publication is dropped: published tables without an identity refuse DELETE.
    if hasSchema {
      await attempt("replica identities of the source", "ALTER TABLE … REPLICA IDENTITY …") {
        try await FullIdentity.restore(notedOn: source, on: source)
      }
    }
    let name = migration?.slot ?? identity.slotName
    await attempt(
      "slot \(name) on the source", "SELECT pg_drop_replication_slot(\(SQL.literal(name)))"
    ) {
      guard let name = SlotName(name) else { return }
      try await ReplicationSlot(name: name).drop(on: source)
    }
    await attempt("schema replicate on the source", "DROP SCHEMA replicate CASCADE") {
      if try await OwnSchema.isOfOthers(on: source) { return }
      try await source.query(
        "DROP SCHEMA IF EXISTS replicate CASCADE", doing: "dropping schema replicate on the source",
        within: .seconds(30))
    }
  }
}
