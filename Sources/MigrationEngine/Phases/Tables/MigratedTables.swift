import LibPQ
import Logging
import LogicalReplication

/// Compares the tables that are part of a migration with those that exist now.
struct MigratedTables: Sendable {
  let excluded: Set<RelationName>

  /// Before the fence: a table created a moment ago, or since the copy dropped from the publication or
  /// renamed, would be missing on the target.
  func verify(source: Connection, target: Connection, publication: String) async throws {
    let action = "comparing the source's tables with the migrated ones"
    let migrated = try await StateStore(target).relations()
    let relations = try await Catalog.read(from: source, measuring: false).relations
    let onTarget = try await Catalog.read(from: target, measuring: false).relations
    let known = Lineages(migrated, source: relations, target: onTarget).tables
    let obstacles = known.compactMap(\.obstacle)
    guard obstacles.isEmpty else {
      throw MigrationError(.failed, doing: action, reason: obstacles.joined(separator: "\n"))
    }
    let ready = Set(known.filter { $0.appliesFrom != nil }.map(\.source.oid))
    let tables = Catalog(relations: relations).publishable.filter { !excluded.contains($0.name) }
    let new = tables.filter { !ready.contains($0.oid) }.map(\.name.description)
    guard new.isEmpty else {
      throw MigrationError(
        .failed, doing: action, reason: "not on the target yet: \(new.joined(separator: ", "))",
        remedy:
          "They were created or rewritten a moment ago, and join by themselves. Try again in a few seconds."
      )
    }
    let rows = try await source.query(
      "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1", [publication],
      doing: action, within: .seconds(60))
    let published = Set(
      try rows.map { RelationName(schema: try $0.text("schemaname"), name: try $0.text("tablename")) })
    let unpublished = tables.map(\.name).filter { !published.contains($0) }
    guard unpublished.isEmpty else {
      throw MigrationError(
        .failed, doing: action,
        reason: "publication \(SQL.identifier(publication)) has lost "
          + unpublished.map(\.description).joined(separator: ", "),
        remedy: "Their changes are missing on the target: abort this migration and begin a new one.")
    }
  }

  /// Tables of the target whose changes do not go back: created after the cutover, or removed from the
  /// publication.
  func notCarriedBack(target: Connection, publication: String) async throws -> [RelationName] {
    let rows = try await target.query(
      "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1", [publication],
      doing: "comparing the target's tables with those of its publication", within: .seconds(60))
    let published = Set(
      try rows.map { RelationName(schema: try $0.text("schemaname"), name: try $0.text("tablename")) })
    return try await Catalog.read(from: target, measuring: false).publishable.map(\.name).filter {
      !excluded.contains($0) && !published.contains($0)
    }
  }

  /// The migrated tables.
  func migrated(from source: Connection) async throws -> Catalog {
    Catalog(
      relations: try await Catalog.read(from: source).relations.filter {
        !excluded.contains($0.name)
      })
  }

  /// What can be compared: the migrated tables, but of joining tables only those that have joined.
  func comparable(_ direction: Direction, source: Connection, target: Connection) async throws -> [Relation] {
    let relations = try await Catalog.read(from: source).relations.filter { !excluded.contains($0.name) }
    switch direction {
    case .forward:
      let stored = try await StateStore(target).relations()
      let joined = Set(stored.filter { $0.snapshotLSN != nil }.map(\.sourceOID))
      return relations.filter { $0.kind != .table || $0.isUnlogged || joined.contains($0.oid) }
    case .back:
      let names = Set(try await Catalog.read(from: target, measuring: false).relations.map(\.name))
      return relations.filter { names.contains($0.name) }
    }
  }

  /// The tables of an end by OID.
  func names(on end: Connection) async throws -> [UInt32: RelationName] {
    let rows = try await end.query(
      """
      SELECT c.oid, n.nspname, c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(Catalog.isUserTable)
      """, doing: "reading the names of the \(end.end)'s tables", within: .seconds(60))
    return Dictionary(
      try rows.map {
        (
          try $0.integer("oid", as: UInt32.self),
          RelationName(schema: try $0.text("nspname"), name: try $0.text("relname"))
        )
      }
    ) { first, _ in first }
  }

  /// Before the fence: copies large objects, so that only what is written from then on remains.
  /// - Parameters:
  ///   - end: receives them.
  ///   - sync: copies them and returns how many had changed.
  /// - Returns: how long `finalise` and another such round may take, in seconds.
  /// - Throws: `MigrationError` when what `finalise` empties is in use on that end.
  func finalisingSeconds(
    _ catalog: Catalog, to end: Connection, _ sync: () async throws -> Int
  ) async throws -> Double {
    var seconds = 0.0
    // Where there was much to copy, the next round shows how long a round takes.
    for _ in 0..<2 {
      let began = ContinuousClock.now
      let changed = try await sync()
      seconds = (ContinuousClock.now - began) / .seconds(1)
      if changed == 0 { break }
    }
    let unlogged = catalog.relations.filter { $0.kind == .table && $0.isUnlogged }
    try await ensureUnused(unlogged.map(\.name), on: end)
    let bytes = unlogged.reduce(Int64(0)) { $0.addingReportingOverflow($1.bytes).partialValue }
    return seconds + Double(unlogged.count) * 0.01 + Double(bytes) / Double(Self.slowCopy)
  }

  /// Checked now, since after the fence users would wait for their readers.
  private func ensureUnused(_ tables: [RelationName], on end: Connection) async throws {
    let action = "checking whether the unlogged tables of the \(end.end) can be rewritten"
    for table in tables {
      do {
        try await LockRetry.execute(
          "LOCK TABLE ONLY \(table) IN ACCESS EXCLUSIVE MODE", on: end, doing: action, within: .seconds(1))
      } catch let error as PostgresError where error.sqlState == .lockNotAvailable {
        let users = try await Writers(end).using(table)
        throw MigrationError(
          .failed, doing: action, reason: "\(table) is in use by \(Writers.list(users))",
          remedy: "Wait until that has ended, or end it on the \(end.end), then try again.")
      }
    }
  }

  /// Bytes a second, with the indexes in place.
  private static let slowCopy: Int64 = 20 << 20

  /// After the fence: copies what the stream does not carry.
  /// - Returns: what was done, for the timeline.
  func finalise(_ catalog: Catalog, _ leg: Leg, jobs: Int) async throws -> String {
    let unlogged = try await UnloggedTables(
      source: leg.from.address, target: leg.to.address, workers: jobs, direction: leg.direction
    ).copy(catalog.relations)
    let ofExtensions = try await copyExtensionTables(leg)
    return "\(unlogged) unlogged tables, \(ofExtensions) of extensions"
  }

  /// After the seal: copies what was written since to tables of extensions, which no fence stops. The target
  /// has them as they were a moment ago, so neither a failure nor the loss of the end that was left keeps it
  /// from being opened. An end that answers is read again.
  /// - Returns: what was done, for the timeline; empty when there was nothing to do.
  func finaliseAgain(_ leg: Leg, jobs: Int, _ logger: Logger) async throws -> String {
    // Most databases have none, and the end that was left may no longer answer.
    guard try await !ConfigurationTable.read(from: leg.to.connection).isEmpty else { return "" }
    var why = "it is lost"
    do {
      let copied = try await Silence.reading(leg.from.address, end: leg.direction.from) { fresh in
        try await copyExtensionTables(leg, observer: fresh)
      }
      if let copied {
        let words = copied == 1 ? "1 table of an extension" : "\(copied) tables of extensions"
        return copied == 0 ? "" : ", \(words) again"
      }
    } catch let error where !(error is CancellationError) {
      // It will be retried.
      if (error as? PostgresError)?.isConnectionLoss == true { throw error }
      why = "\(error)"
    }
    logger.warning(
      "tables of extensions could not be read again after the seal", metadata: ["why": "\(why)"])
    return ", tables of extensions as they were after the fence"
  }

  /// After the seal, just before the opening.
  /// - Returns: what was done, for the timeline.
  func activateJobs(_ leg: Leg, _ logger: Logger) async throws -> String {
    do {
      let count = try await Silence.reading(leg.from.address, end: leg.direction.from) { fresh in
        try await ScheduledJobs(excluded: excluded).activate(
          from: fresh ?? leg.from.connection, to: leg.to.connection)
      }
      guard let count else { return ", jobs are not active since the \(leg.direction.from) is lost" }
      return count == 0 ? "" : ", \(count) job\(count == 1 ? "" : "s") of pg_cron activated"
    } catch let error where !(error is CancellationError) {
      if (error as? PostgresError)?.isConnectionLoss == true { throw error }
      logger.warning(
        "jobs of pg_cron are not active on the \(leg.direction.to)",
        metadata: ["why": "\(error)", "remedy": "UPDATE cron.job SET active = true WHERE …"])
      return ", jobs of pg_cron not activated"
    }
  }

  /// After the opening. A failure keeps nobody from anything: the end that was left refuses their writes.
  func deactivateJobs(_ leg: Leg, _ logger: Logger) async {
    do {
      _ = try await Silence.reading(leg.from.address, end: leg.direction.from) { fresh in
        let session = fresh ?? leg.from.connection
        try await session.query(
          "SET default_transaction_read_only = off", doing: "handing the jobs of pg_cron over",
          within: .seconds(15))
        try await ScheduledJobs(excluded: excluded).deactivate(on: session)
      }
    } catch {
      logger.warning(
        "jobs of pg_cron are still active on the \(leg.direction.from)",
        metadata: ["why": "\(error)", "remedy": "UPDATE cron.job SET active = false;"])
    }
  }

  private func copyExtensionTables(_ leg: Leg, observer: Connection? = nil) async throws -> Int {
    try await ExtensionTables(
      source: leg.from.address, target: leg.to.address, excluded: excluded, direction: leg.direction
    ).copy(observer: observer ?? leg.from.connection, target: leg.to.connection)
  }
}
