import LibPQ
import Logging
import LogicalReplication

/// What reverse replication needs on the target: publication, slot, replica identities. Created before a
/// cutover's fence, so that no user waits for it, and removed when the cutover does not follow.
struct ReverseReplication: Sendable {
  static let publicationName = "replicate_back"

  let options: MigrationOptions
  let ends: Endpoints
  let excluded: Set<RelationName>
  let logger: Logger

  /// Creating a slot waits for open transactions; those of the stream are short.
  private static let slotLimit = Duration.seconds(20)

  private var store: StateStore { StateStore(ends.target) }
  private var publication: Publication { Publication(name: Self.publicationName) }

  /// Does nothing where the servers do not allow reverse replication, which preflight has reported.
  /// - Throws: `MigrationError` when it should be possible but is not.
  func prepare() async throws {
    try await remove()
    guard options.replicatesBack else { return }
    let name = try await DatabaseIdentity.read(from: ends.target).reverseSlotName
    let obstacles = try await ReverseObstacle.find(source: ends.source, target: ends.target, slot: name)
    guard obstacles.isEmpty, let slotName = SlotName(name) else {
      for obstacle in obstacles {
        logger.warning("there will be no way back", metadata: ["why": "\(obstacle.why)"])
        try await store.note("no way back: \(obstacle.why)")
      }
      return
    }
    let began = ContinuousClock.now
    do {
      try await make(ReplicationSlot(name: slotName))
    } catch let error as PostgresError where !error.isConnectionLoss {
      throw MigrationError(
        .failed, doing: error.action, reason: error.message,
        remedy: "Without reverse replication the cutover needs none of this: start the engine with "
          + "--no-reverse.")
    }
    logger.info(
      "prepared reverse replication", metadata: ["slot": "\(name)", "took": "\(ContinuousClock.now - began)"])
  }

  private func make(_ slot: ReplicationSlot) async throws {
    let relations = try await Self.relations(
      of: ends.target, also: ends.source, excluded: excluded)
    try await store.beginReverseReplication(slot: slot.name.description, publication: Self.publicationName)
    try await SourceState(ends.target).createTables()
    // Published without an identity, they would refuse UPDATE and DELETE.
    try await FullIdentity.set(
      on: relations.filter { $0.kind == .table && !$0.isUnlogged }, source: ends.target)
    try await publication.ensure(relations, on: ends.target)
    try await slot.create(on: ends.target, within: Self.slotLimit)
    try await StateStore(ends.source).createProgress()
  }

  /// Removes it from the target; can be repeated.
  func remove() async throws {
    guard let way = try await store.reverseReplication() else { return }
    try await Self.removePublished(way, from: ends.target, isStreamed: true)
    try await store.forgetReverseReplication()
  }

  /// Removes everything but its stored state.
  /// - Parameter isStreamed: the source's changes are still applied to it.
  static func removePublished(
    _ way: StoredReverseReplication, from target: Connection, isStreamed: Bool = false
  ) async throws {
    if let name = SlotName(way.slot) { try await ReplicationSlot(name: name).drop(on: target) }
    try await Publication(name: way.publication).drop(on: target)
    // Only after the publication is dropped: published tables without an identity refuse DELETE.
    if try await SourceState(target).fence() != nil {
      try await FullIdentity.restore(notedOn: target, on: target, isStreamed: isStreamed)
    }
  }

  /// Migrated tables that both ends have, partitioned ones included.
  static func relations(
    of end: Connection, also other: Connection, excluded: Set<RelationName>
  ) async throws -> [Relation] {
    let names = Set(try await Catalog.read(from: other, measuring: false).relations.map(\.name))
    return try await Catalog.read(from: end, measuring: false).relations.filter {
      !excluded.contains($0.name) && names.contains($0.name)
    }
  }
}
