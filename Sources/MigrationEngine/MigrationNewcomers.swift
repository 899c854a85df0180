import LibPQ
import Logging
import LogicalReplication

/// Tables that were created on the source during the migration: they are noticed, copied on a snapshot of
/// their own, and followed like the rest.
struct MigrationNewcomers: Sendable {
  let options: MigrationOptions
  let logger: Logger
  let ends: MigrationEnds
  let publication: Publication
  let excluded: Set<RelationName>

  private var store: StateStore { StateStore(ends.target) }

  /// What is there to do.
  struct Found: Sendable {
    var relations: [Relation] = []
    /// Why some cannot join, for people.
    var obstacles: [String] = []
  }

  /// How often it is tried again when a table cannot join.
  private static let pause = Duration.seconds(2)

  /// Waits for tables that can be copied now: the stream has come to one.
  /// - Returns: none when it was dropped meanwhile.
  func awaitDefined(_ monitor: StreamMonitor) async throws -> [Relation] {
    while true {
      let found = try await findDefined(monitor)
      guard found.isEmpty, monitor.reading.waitsFor != nil else { return found }
      try await Task.sleep(for: Self.pause)
    }
  }

  /// Tables that are new on the source, defined on the target as well. What keeps others from it is told by
  /// the log and the status.
  func findDefined(_ monitor: StreamMonitor) async throws -> [Relation] {
    var found = try await find()
    if !found.relations.isEmpty {
      do {
        try await store.noteJoining(found.relations)
        try await define(found.relations)
      } catch let error as MigrationError {
        found.relations = []
        found.obstacles.append("\(error)")
      }
    }
    let obstacle = found.obstacles.isEmpty ? nil : found.obstacles.joined(separator: "\n")
    // No cutover is ready while tables join.
    let joining = found.relations.isEmpty ? nil : "new tables are being copied: \(list(found.relations))"
    if monitor.isHeldUp(by: obstacle ?? joining), let obstacle {
      logger.warning("the source has other tables than the target", metadata: ["what": "\(obstacle)"])
    }
    return found.relations
  }

  // MARK: Noticing

  /// Looks for tables of the source that the migration does not know, or that an earlier engine was about to
  /// take in.
  func find() async throws -> Found {
    let stored = try await store.relations()
    let joining = try await store.joining()
    let known = stored.map(\.sourceOID).filter { !joining.contains($0) }
    let unknown = try await unknownTables(known: known)
    let gone = try await forgetGone(stored)
    var found = Found()
    found.obstacles = gone.sorted().map {
      "table \($0) was dropped on the source. Drop it on the target, too: DROP TABLE \($0);"
    }
    guard !unknown.isEmpty else { return found }
    let relations = try await Catalog.read(from: ends.source).relations.filter { unknown.contains($0.oid) }
    let there = try await tablesOnTarget()
    for relation in relations where !excluded.contains(relation.name) {
      // Partitioned and unlogged tables are not registered: they have joined when the target has them.
      let isRegistered = relation.kind == .table && !relation.isUnlogged
      guard isRegistered || joining.contains(relation.oid) || !there.contains(relation.name) else { continue }
      // One that was dropped and created anew waits for the old one to go from the target.
      if gone.contains(relation.name) { continue }
      if isRegistered, !relation.isPartition, !relation.hasUsableIdentity,
        !options.setsReplicaIdentityFull
      {
        found.obstacles.append(
          "new table \(relation.name) has no replica identity: once published, the source would refuse its "
            + "UPDATEs and DELETEs. Give it a primary key, and it joins by itself, or: "
            + "ALTER TABLE \(relation.name) REPLICA IDENTITY FULL;")
      } else {
        found.relations.append(relation)
      }
    }
    return found
  }

  private func unknownTables(known: [UInt32]) async throws -> Set<UInt32> {
    let rows = try await ends.source.query(
      """
      SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(Catalog.isUserTable)
        AND NOT EXISTS (SELECT FROM pg_catalog.unnest($1::oid[]) AS k (oid) WHERE k.oid = c.oid)
      """, [SQL.array(known.map(String.init))], doing: "looking for new tables on the source",
      within: .seconds(60))
    return Set(try rows.map { try $0.integer("oid", as: UInt32.self) })
  }

  /// Forgets tables that neither end has any more.
  /// - Returns: those that only the target has.
  private func forgetGone(_ stored: [StoredRelation]) async throws -> Set<RelationName> {
    let rows = try await ends.source.query(
      """
      SELECT k.oid FROM pg_catalog.unnest($1::oid[]) AS k (oid)
      WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = k.oid)
      """, [SQL.array(stored.map { "\($0.sourceOID)" })], doing: "looking for dropped tables on the source",
      within: .seconds(60))
    let oids = Set(try rows.map { try $0.integer("oid", as: UInt32.self) })
    guard !oids.isEmpty else { return [] }
    let there = try await tablesOnTarget()
    let gone = stored.filter { oids.contains($0.sourceOID) }
    let forgotten = gone.filter { !there.contains($0.name) }
    if !forgotten.isEmpty {
      logger.info("dropped on both ends", metadata: ["tables": "\(forgotten.map(\.name.description))"])
      try await store.forget(forgotten.map(\.sourceOID))
    }
    return Set(gone.map(\.name)).intersection(there)
  }

  private func tablesOnTarget() async throws -> Set<RelationName> {
    let rows = try await ends.target.query(
      """
      SELECT n.nspname, c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(Catalog.isUserTable)
      """, doing: "listing the tables of the target", within: .seconds(60))
    return Set(
      try rows.map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) })
  }

  // MARK: Joining

  /// Makes the tables on the target, empty and by themselves. Can be tried again.
  /// - Throws: `MigrationError` when the target refuses one, as when it needs a type that only the source
  ///   has.
  func define(_ relations: [Relation]) async throws {
    let there = try await tablesOnTarget()
    let missing = relations.filter { !there.contains($0.name) }
    guard !missing.isEmpty else { return }
    let archive = SchemaArchive(source: options.source, only: missing.map(\.name))
    try await archive.dump(under: nil)
    do {
      try await transfer.restore(.tables, from: try await archive.file(), source: ends.source)
    } catch let error as MigrationError {
      await archive.remove()
      throw MigrationError(
        .failed, doing: "making \(list(missing)), created on the source during the migration, on the target",
        reason: error.reason,
        remedy: "Make what is missing on the target by hand, or the table itself, and it joins by itself.")
    }
    await archive.remove()
    try await IdentityColumns.relax(Catalog(relations: missing), on: ends.target)
  }

  /// Copies tables that are defined on both ends, and lets the stream come to where they were copied.
  /// Begins anew what an earlier engine left half done.
  /// - Parameter follow: streams until everything before an LSN is applied.
  func join(
    _ relations: [Relation], _ monitor: StreamMonitor, follow: (LSN) async throws -> Void
  ) async throws {
    guard !relations.isEmpty else { return }
    logger.info("new tables join the migration", metadata: ["tables": "\(list(relations))"])
    let tables = relations.filter { $0.kind == .table && !$0.isUnlogged }
    if options.setsReplicaIdentityFull { try await FullIdentity.set(on: tables, source: ends.source) }
    try await store.register(tables)
    try await publication.add(relations, on: ends.source)
    try await detach(relations)
    try await SchemaTransfer.dropIndexes(on: ends.target, of: relations.map(\.name))
    let snapshot = try await ReplicationSlot.temporarySnapshot(on: options.source, observer: ends.source)
    let archive = SchemaArchive(source: options.source, only: relations.map(\.name))
    func remove() async { await archive.remove() }
    try await finally(remove) {
      try await finally(snapshot.release) {
        try await snapshot.telling { try await archive.dump(under: snapshot.name) }
        let copy = TableCopy(
          source: options.source, target: options.target, workers: options.jobs, progress: CopyProgress(),
          rateLimit: RateLimit(options.maxBytesPerSecond))
        try await copy.run(CopyPlan(tables, workers: options.jobs, isFirst: false), under: snapshot)
      }
      let file = try await archive.file()
      try await transfer.restore(.indexes, from: file, source: ends.source)
      try await transfer.restore(.attachments, from: file, source: ends.source)
      try await FullIdentity.restore(notedOn: ends.source, on: ends.target)
      try await PlannerStatistics.refresh(
        relations, on: options.target, workers: options.jobs,
        under: try await UserSettings.read(from: ends.source, usableOn: ends.target))
      // Foreign keys hold only where all tables stand at one LSN.
      try await follow(snapshot.lsn)
      try await transfer.restore(.constraints, from: file, source: ends.source)
    }
    try await store.noteJoined()
    _ = monitor.isHeldUp(by: nil)
  }

  /// Partitions that an earlier try has attached: their indexes could not be made anew.
  private func detach(_ relations: [Relation]) async throws {
    let names = relations.filter(\.isPartition).map(\.name)
    let rows = try await ends.target.query(
      """
      SELECT pg_catalog.format('ALTER TABLE %s DETACH PARTITION %I.%I', i.inhparent::pg_catalog.regclass,
        n.nspname, c.relname) AS statement
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS k (schema, name)
        JOIN pg_catalog.pg_namespace n ON n.nspname = k.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = k.name
        JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
      WHERE c.relispartition
      """, [SQL.array(names.map(\.schema)), SQL.array(names.map(\.name))],
      doing: "looking for partitions of an earlier try", within: .seconds(15))
    for row in rows {
      try await ends.target.query(try row.text("statement"), doing: "detaching a partition of an earlier try")
    }
  }

  private var transfer: SchemaTransfer {
    SchemaTransfer(target: options.target, publication: publication.name, jobs: options.jobs)
  }

  private func list(_ relations: [Relation]) -> String {
    relations.map(\.name.description).joined(separator: ", ")
  }
}
