import LibPQ
import Logging
import LogicalReplication

/// Copies registered tables that are not copied yet, or no longer what was copied.
struct TableCopies: Sendable {
  let options: MigrationOptions
  let ends: Endpoints

  /// What could not be copied.
  struct Left: Sendable {
    /// The snapshot no longer describes them: they need a newer one.
    var anew: [RelationName] = []
    /// The source has dropped them.
    var gone: [RelationName] = []
    /// Why others do not fit the target, for people.
    var obstacles: [String] = []
    /// Tables whose rows the target refuses, by the source's OIDs, and what it said.
    var refused: [UInt32: (name: RelationName, words: String)] = [:]
  }

  /// - Parameters:
  ///   - missing: what is to be copied.
  ///   - isFirst: the target's tables have neither rows nor foreign keys yet.
  func copy(
    _ missing: [StoredRelation], isFirst: Bool = true, progress: CopyProgress, _ limit: RateLimit?,
    under snapshot: ExportedSnapshot
  ) async throws -> Left {
    guard !missing.isEmpty else { return Left() }
    let source = try await relations(under: snapshot)
    let now = try await MigratedTables(excluded: []).names(on: ends.source)
    let target = try await Catalog.read(from: ends.target, measuring: false).relations
    let tables = Lineages(missing, source: source, target: target).tables
    var left = Left()
    left.obstacles = tables.compactMap(\.obstacle)
    left.gone = missing.filter { now[$0.sourceOID] == nil }.map(\.name)
    var lineages: [UInt32: TableLineage] = [:]
    for table in tables where table.obstacle == nil && now[table.source.oid] != nil {
      guard let target = table.target else {
        left.obstacles.append(
          "the target no longer has a table \(table.source.name): restore its name")
        continue
      }
      lineages[table.source.oid] = TableLineage(source: table.source, target: target)
    }
    let relations = source.filter { lineages[$0.oid] != nil }
    let copy = TableCopy(
      source: options.source, target: options.target, workers: options.jobs, progress: progress,
      rateLimit: limit, leavesRefused: true)
    let plan = CopyPlan(
      relations, workers: options.jobs, isFirst: isFirst,
      referenced: isFirst ? [] : try await ForeignKeys.referencedTables(on: ends.target),
      cut: try await TableCut.cheapest(for: relations, on: ends.source))
    let notCopied = try await copy.copy(plan, under: snapshot, lineages: lineages)
    for relation in relations {
      guard let error = notCopied.refused[relation.oid] else { continue }
      left.refused[relation.oid] = (relation.name, error.words)
    }
    // Includes tables newer than the snapshot.
    let known = Set(source.map(\.oid))
    left.anew = missing.filter {
      notCopied.outdated.contains($0.sourceOID) || (!known.contains($0.sourceOID) && now[$0.sourceOID] != nil)
    }.map(\.name)
    return left
  }

  /// The source's tables as they are under the snapshot.
  private func relations(under snapshot: ExportedSnapshot) async throws -> [Relation] {
    let session = try await Session.open(options.source, end: "source", purpose: "copy")
    return try await closing(session) {
      try await snapshot.enter(session)
      return try await Catalog.read(from: session).relations
    }
  }
}
