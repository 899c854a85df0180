import LibPQ
import Logging
import LogicalReplication

/// Publication, slot and the schema's pre-data, which the copy needs.
struct SchemaPhase: PhasePart {
  let context: PhaseContext
  let slot: ReplicationSlot
  let publication: Publication
  let excluded: Set<RelationName>
  let archive: SchemaArchive
  let restoration: SchemaRestoration

  /// - Returns: the snapshot at the slot's beginning; nil when the slot exists from an earlier run.
  func transfer() async throws -> ExportedSnapshot? {
    try await SourceState(ends.source).create()
    if options.setsReplicaIdentityFull {
      try await FullIdentity.set(
        on: try await relations().filter { $0.kind == .table && !$0.isUnlogged }, source: ends.source)
    }
    let relations = try await relations()
    try await publication.ensure(relations, on: ends.source)
    var snapshot: ExportedSnapshot?
    if try await store.progress() == nil {
      // An earlier run created it and could not record it.
      try await slot.drop(on: ends.source)
      let created = try await slot.create(on: options.source, observer: ends.source)
      try await store.beginProgress(at: created.lsn)
      logger.info("created slot \(slot.name)", metadata: ["at": "\(created.lsn)"])
      snapshot = created
    }
    do {
      if options.createsRoles {
        let made = try await MissingRoles.create(
          source: ends.source, target: ends.target, options.target, publication: publication.name)
        if !made.roles.isEmpty {
          logger.info("created roles on the target", metadata: ["roles": "\(made.roles)"])
        }
        for membership in made.withheld {
          logger.warning("a membership of a role was left out", metadata: ["statement": "\(membership)"])
          try await store.note("a membership was left out on the target: \(membership)")
        }
        for setting in made.leftOut {
          logger.warning("a setting of a role was left out", metadata: ["statement": "\(setting)"])
        }
      }
      // The relations in the dump: what is created later joins later.
      let dumped = try await self.relations(under: snapshot)
      if let snapshot {
        try await snapshot.explainingLoss { try await archive.dump(under: snapshot.name) }
      } else {
        try await archive.dump(under: nil)
      }
      try await restoration.restore(.preData)
      try await FullIdentity.restore(notedOn: ends.source, on: ends.target)
      try await IdentityColumns.relax(Catalog(relations: dumped), on: ends.target)
      try await store.register(dumped.filter { $0.kind == .table && !$0.isUnlogged })
    } catch {
      await snapshot?.release()
      throw error
    }
    return snapshot
  }

  /// The migrated relations: those that were not excluded.
  private func relations() async throws -> [Relation] {
    return try await Catalog.read(from: ends.source).relations.filter { !excluded.contains($0.name) }
  }

  /// The same as they are under a snapshot, or now.
  private func relations(under snapshot: ExportedSnapshot?) async throws -> [Relation] {
    guard let snapshot else { return try await relations() }
    let session = try await Session.open(options.source, end: "source", purpose: "catalog")
    return try await closing(session) {
      try await snapshot.enter(session)
      return try await Catalog.read(from: session).relations.filter { !excluded.contains($0.name) }
    }
  }
}
