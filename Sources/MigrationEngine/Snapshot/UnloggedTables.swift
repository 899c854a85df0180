import LibPQ
import LogicalReplication

/// Tables that are not in the WAL: copied as a whole while nobody writes.
struct UnloggedTables: Sendable {
  let source: ConnectionString
  let target: ConnectionString
  let workers: Int
  let direction: Direction

  init(
    source: ConnectionString, target: ConnectionString, workers: Int, direction: Direction = .forward
  ) {
    self.direction = direction
    self.source = source
    self.target = target
    self.workers = workers
  }

  /// - Returns: how many tables were copied.
  func copy(_ relations: [Relation]) async throws -> Int {
    let tables = relations.filter { $0.kind == .table && $0.isUnlogged }
    guard !tables.isEmpty else { return 0 }
    let snapshot = try await ExportedSnapshot.current(on: source, direction)
    try await finally(snapshot.release) {
      let copy = TableCopy(
        source: source, target: target, workers: workers, progress: CopyProgress(), isStreamed: false)
      // No time to look for ranges of keys: somebody waits.
      let cut = try await snapshot.holder.has(.tidRangeScan) ? TableCut.blocks : .keys([:])
      let left = try await copy.copy(
        CopyPlan(tables, workers: workers, isFirst: false, cut: cut), under: snapshot
      ).outdated
      guard left.isEmpty else {
        throw MigrationError(
          .failed, doing: "copying the unlogged tables of the \(direction.from)",
          reason: tables.filter { left.contains($0.oid) }.map(\.name.description).joined(separator: ", ")
            + " was redefined or rewritten meanwhile", remedy: "Try again.")
      }
    }
    return tables.count
  }
}
