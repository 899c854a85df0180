import LibPQ
import Logging
import LogicalReplication

/// Tables that were created on the source during the migration, or whose rows changed in ways that the stream
/// does not carry: they are noticed, copied on their own snapshot, and followed like the rest.
struct NewTables: PhasePart {
  let context: PhaseContext
  let publication: Publication
  let excluded: Set<RelationName>
  let refused: RefusedTables
  let refusedSchema: RefusedSchema

  /// What there is to do.
  struct Found: Sendable {
    /// Tables that are new on the source, and defined on the target as well.
    var new: [Relation] = []
    /// Tables whose rows must be copied again, and whose definitions fit.
    var again: [StoredRelation] = []
    /// Tables of the target, by the source's OIDs, whose rows are no longer the source's.
    var outdated: [UInt32: RelationName] = [:]
    /// Why others cannot join, for people.
    var obstacles: [String] = []

    var isEmpty: Bool { new.isEmpty && again.isEmpty && outdated.isEmpty }
    fileprivate var names: String {
      (new.map(\.name.description) + again.map(\.name.description) + outdated.values.map(\.description))
        .joined(separator: ", ")
    }
  }

  /// Looks for what is to be copied, and defines new tables on the target. The log and the status report what
  /// keeps others from joining.
  func findDefined(_ monitor: StreamMonitor) async throws -> Found {
    var found = try await find()
    if !found.new.isEmpty {
      do {
        try await store.noteJoining(found.new)
        try await define(found.new)
      } catch let error as MigrationError {
        found.new = []
        found.obstacles.append("\(error)")
      } catch let error as PostgresError where !error.isConnectionLoss {
        found.new = []
        found.obstacles.append("\(error)")
      }
    }
    let obstacle = found.obstacles.joined(separator: "\n")
    monitor.passes(found.isEmpty ? nil : "tables are being copied: \(found.names)")
    if monitor.isHeldUp(by: obstacle.isEmpty ? nil : obstacle), !obstacle.isEmpty {
      logger.warning("the source has other tables than the target", metadata: ["what": "\(obstacle)"])
    }
    return found
  }

  // MARK: Noticing

  /// Compares the tables of both ends with those that the migration knows.
  func find() async throws -> Found {
    let stored = try await store.relations()
    let joining = try await store.joining()
    let source = try await Catalog.read(from: ends.source, measuring: false).relations
    let target = try await Catalog.read(from: ends.target, measuring: false).relations
    var found = Found()
    let gone = try await forgetGone(stored, source, target)
    found.obstacles = gone.sorted().map {
      "table \($0) was dropped on the source. Drop it on the target, too: DROP TABLE \($0);"
    }
    let known = stored.filter { !joining.contains($0.sourceOID) }
    try await judge(Lineages(known, source: source, target: target), &found)
    found.obstacles += refused.obstacles(of: Set(found.again.map(\.sourceOID)))
    found.again.removeAll { !refused.isDue($0.sourceOID) }
    let knownOIDs = Set(known.map(\.sourceOID))
    let theirs = Dictionary(target.map { ($0.name, $0) }) { first, _ in first }
    for relation in source where !knownOIDs.contains(relation.oid) && !excluded.contains(relation.name) {
      // A table that was dropped and recreated waits until the old one is gone from the target.
      if gone.contains(relation.name) { continue }
      // Partitioned and unlogged tables are not registered: they have joined once the target has them.
      let isRegistered = relation.kind == .table && !relation.isUnlogged
      let isJoining = joining.contains(relation.oid)
      guard isRegistered || isJoining || theirs[relation.name] == nil else { continue }
      if isRegistered, let obstacle = identityObstacle(relation) {
        found.obstacles.append(obstacle)
      } else if isRegistered, !isJoining, let there = theirs[relation.name], there.isUnlogged {
        try await makeLogged(relation, there, &found)
      } else {
        found.new.append(relation)
      }
    }
    return found
  }

  private func identityObstacle(_ relation: Relation) -> String? {
    guard !relation.isPartition, !relation.hasUsableIdentity, !options.setsReplicaIdentityFull else {
      return nil
    }
    return """
      new table \(relation.name) has no replica identity: once published, the source would refuse its \
      UPDATEs and DELETEs. Give it a primary key, and it joins by itself, or: \
      ALTER TABLE \(relation.name) REPLICA IDENTITY FULL;
      """
  }

  private func judge(_ lineages: Lineages, _ found: inout Found) async throws {
    for table in lineages.tables {
      if let obstacle = table.obstacle { found.obstacles.append(obstacle) }
      let isCopied = table.stored.snapshotLSN != nil
      guard let target = table.target, let verdict = table.verdict else {
        found.new.append(table.source)
        continue
      }
      switch verdict {
      case .follows where !isCopied, .copyAgain where !isCopied: found.again.append(table.stored)
      case .follows(let lineage):
        if lineage != table.stored.lineage || target.fileNode != table.stored.targetFile
          || table.source.name != table.stored.name
        {
          try await store.store(lineage, of: table.source, targetFile: target.fileNode)
        }
      case .copyAgain(let reason):
        logger.warning(
          "a table is copied again", metadata: ["table": "\(table.source.name)", "because": "\(reason)"])
        found.outdated[table.source.oid] = target.name
      case .differs(let difference):
        if isCopied, difference.isToBeCopied { found.outdated[table.source.oid] = target.name }
      }
    }
  }

  /// A formerly unlogged table is in the WAL by now: it is streamed, and its copy must survive a crash of the
  /// target as well.
  private func makeLogged(_ relation: Relation, _ there: Relation, _ found: inout Found) async throws {
    do {
      try await LockRetry.execute(
        "ALTER TABLE \(there.name) SET LOGGED", on: ends.target,
        doing: "making table \(there.name) logged, as it is on the source now", within: .seconds(5))
      try await store.register([relation])
    } catch let error as PostgresError where !error.isConnectionLoss {
      found.obstacles.append("\(error)")
    }
  }

  /// Forgets tables that no longer exist on either end.
  /// - Returns: those that only the target has.
  private func forgetGone(
    _ stored: [StoredRelation], _ source: [Relation], _ target: [Relation]
  ) async throws -> Set<RelationName> {
    let there = Set(source.map(\.oid))
    var left: Set<RelationName> = []
    var forgotten: [StoredRelation] = []
    for table in stored where !there.contains(table.sourceOID) {
      let found = target.first { relation in
        table.lineage.map { $0.targetOID == relation.oid } ?? (table.name == relation.name)
      }
      if let found { left.insert(found.name) } else { forgotten.append(table) }
    }
    if !forgotten.isEmpty {
      logger.info("dropped on both ends", metadata: ["tables": "\(forgotten.map(\.name.description))"])
      try await store.forget(forgotten.map(\.sourceOID))
    }
    return left
  }

  // MARK: Joining

  /// Creates the tables on the target, empty and on their own. Can be retried.
  /// - Throws: `MigrationError` when the target refuses one, as when it needs a type that only the source
  ///   has.
  func define(_ relations: [Relation]) async throws {
    let there = Set(try await MigratedTables(excluded: excluded).names(on: ends.target).values)
    let missing = relations.filter { !there.contains($0.name) }
    guard !missing.isEmpty else { return }
    let archive = SchemaArchive(source: options.source, only: missing.map(\.name))
    try await archive.dump(under: nil)
    do {
      _ = try await transfer.restore(.tables, from: try await archive.file(), source: ends.source)
    } catch let error as MigrationError {
      await archive.remove()
      throw MigrationError(
        .failed,
        doing: """
          creating \(missing.map(\.name.description).joined(separator: ", ")), created on the source during \
          the migration, on the target
          """,
        reason: error.reason,
        remedy: "Create what is missing on the target by hand, or the table itself, and it joins by itself.")
    }
    await archive.remove()
    try await IdentityColumns.relax(Catalog(relations: missing), on: ends.target)
  }

  /// Suspends the changes of tables whose rows are no longer the source's, until they are copied again. Not
  /// while the stream runs.
  func setAside(_ outdated: [UInt32: RelationName]) async throws {
    for (oid, name) in outdated { try await store.setAside(oid, name) }
  }

  /// The table whose changes the stream could no longer read.
  func outdated(_ table: OutdatedTable) async throws -> [UInt32: RelationName] {
    logger.warning("a table is copied again", metadata: ["because": "\(table.error)"])
    let target = try await Catalog.read(from: ends.target, measuring: false).relations
    let stored = try await store.relations().first { $0.sourceOID == table.sourceOID }
    let found =
      target.first { $0.oid == stored?.lineage?.targetOID } ?? target.first { $0.name == stored?.name }
    guard let found else { throw table.error }
    return [table.sourceOID: found.name]
  }

  /// A snapshot for what was prepared, while the stream runs: nothing that commits at or after its LSN is
  /// applied until the limit is lifted.
  /// - Parameter limit: for each open transaction.
  /// - Returns: nil when open transactions prevent it for now, which is reported.
  func snapshot(
    _ monitor: StreamMonitor, within limit: Duration = Self.slotLimit
  ) async throws -> ExportedSnapshot? {
    do {
      return try await SnapshotPairing(
        direction: .forward, from: options.source, to: options.target, monitor: monitor, logger: logger,
        slotLimit: limit
      ).takeFirst()
    } catch let error as OpenTransactions {
      if monitor.isHeldUp(by: "\(error.error)") {
        logger.warning("tables wait for their snapshot", metadata: ["for": "\(error.error)"])
      }
      return nil
    }
  }

  /// The same while no stream runs, however long it takes.
  func snapshotAtLast(_ monitor: StreamMonitor) async throws -> ExportedSnapshot {
    while true {
      if let snapshot = try await snapshot(monitor) {
        monitor.bound.lift()
        return snapshot
      }
    }
  }

  /// How long a snapshot waits for each open transaction, before that is reported and the snapshot retried.
  static let slotLimit = Duration.seconds(20)

  /// What must exist before the snapshot under which tables are copied. The stream may run: it leaves them
  /// alone until they are copied. Restarts what an earlier engine left half done.
  func prepare(_ found: Found) async throws {
    logger.info("tables join the migration", metadata: ["tables": "\(found.names)"])
    let tables = found.new.filter { $0.kind == .table && !$0.isUnlogged }
    if options.setsReplicaIdentityFull { try await FullIdentity.set(on: tables, source: ends.source) }
    try await store.register(tables)
    let again = Set(found.again.map(\.sourceOID))
    let published = try await Catalog.read(from: ends.source, measuring: false).relations.filter {
      again.contains($0.oid)
    }
    try await publication.add(found.new + published, on: ends.source)
    guard !found.new.isEmpty else { return }
    try await detach(found.new)
    try await SchemaTransfer.dropIndexes(on: ends.target, of: found.new.map(\.name))
  }

  /// Copies what was found and prepared, while the stream does not run, then streams to the copy's LSN.
  /// - Parameters:
  ///   - snapshot: released.
  ///   - follow: streams until everything before an LSN is applied.
  func join(
    _ found: Found, under snapshot: ExportedSnapshot, _ monitor: StreamMonitor,
    follow: (LSN) async throws -> Void
  ) async throws {
    let archive = SchemaArchive(source: options.source, only: found.new.map(\.name))
    func remove() async { await archive.remove() }
    try await finally(remove) {
      let isComplete = try await finally(snapshot.release) {
        try await copy(found, archive, under: snapshot)
      }
      guard isComplete else { return }
      guard !found.new.isEmpty else { return try await follow(snapshot.lsn) }
      let file = try await archive.file()
      var left = try await transfer.restore(.indexes, from: file, source: ends.source)
      try await attach(found.new, missingIn: file)
      left += try await transfer.restore(.attachments, from: file, source: ends.source)
      try await FullIdentity.restore(notedOn: ends.source, on: ends.target, isStreamed: true)
      try await FullIdentity.setWherePublished(on: ends.target)
      try await PlannerStatistics.refresh(
        found.new, on: options.target, workers: options.jobs,
        under: try await UserSettings.read(from: ends.source, usableOn: ends.target))
      // Foreign keys hold only where all tables are at one LSN.
      try await follow(snapshot.lsn)
      left += try await transfer.restore(.constraints, from: file, source: ends.source)
      // A function that a trigger calls may be missing on the target: the tables are there, and the stream
      // continues.
      try await refusedSchema.keep(left)
      try await store.noteJoined()
    }
    // Only the next look at both ends shows that all have joined.
  }

  /// - Returns: whether all new tables were copied, so that the rest of what they need can be created.
  private func copy(
    _ found: Found, _ archive: SchemaArchive, under snapshot: ExportedSnapshot
  ) async throws -> Bool {
    if !found.new.isEmpty {
      try await snapshot.explainingLoss { try await archive.dump(under: snapshot.name) }
    }
    let new = Set(found.new.map(\.oid))
    let registered = try await store.relations().filter { new.contains($0.sourceOID) }
    let began = ContinuousClock.now
    let left = try await TableCopies(options: options, ends: ends).copy(
      registered + found.again, isFirst: false, progress: CopyProgress(),
      RateLimit(options.maxBytesPerSecond), under: snapshot)
    for table in registered + found.again {
      guard let reason = left.refused[table.sourceOID] else {
        refused.forget(table.sourceOID)
        continue
      }
      let isNews = refused.note(table.sourceOID, table.name, reason.words, took: .now - began)
      if isNews {
        logger.warning(
          "the target refuses rows of a table, which is copied again later",
          metadata: ["table": "\(table.name)", "because": "\(reason.words)"])
      }
    }
    // The next look finds what is left.
    let names = Set(left.anew + left.gone)
    return !registered.contains { names.contains($0.name) } && (found.new.isEmpty || left.obstacles.isEmpty)
  }

  var transfer: SchemaTransfer {
    SchemaTransfer(target: options.target, publication: publication.name, jobs: options.jobs)
  }
}
