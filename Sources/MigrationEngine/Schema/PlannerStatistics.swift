import LibPQ

/// Statistics for the stream's statements and the application's first queries.
enum PlannerStatistics {
  /// Tables in one statement; each is its own transaction.
  private static let batchSize = 50

  /// - Parameters:
  ///   - relations: partitions may be among them; ANALYZE of a partitioned table reads them too.
  ///   - settings: those under which expressions of indexes and statistics are evaluated.
  static func refresh(
    _ relations: [Relation], on target: ConnectionString, workers: Int, under settings: UserSettings
  ) async throws {
    let tables = relations.filter { !$0.isPartition }.sorted { $0.bytes > $1.bytes }
    let workers = min(workers, tables.count)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for worker in 0..<workers {
        // Dealt out in turn, so that each has as much to do.
        let share = stride(from: worker, to: tables.count, by: workers).map { tables[$0] }
        group.addTask { try await analyze(share, on: target, under: settings) }
      }
      try await group.waitForAll()
    }
  }

  private static func analyze(
    _ tables: [Relation], on target: ConnectionString, under settings: UserSettings
  ) async throws {
    let connection = try await Session.open(target, end: "target", purpose: "analyze")
    let byDetour = Dictionary(grouping: tables) { settings.detour(to: $0.owner, isLocal: false) }
    try await closing(connection) {
      try await settings.apply(to: connection)
      for (detour, tables) in byDetour {
        if let detour { try await connection.query(detour.enter, doing: "preparing to analyse tables") }
        for batch in tables.map(\.name.description).batches(of: batchSize) {
          try await connection.query("ANALYZE \(batch.joined(separator: ", "))", doing: "analysing tables")
        }
        if let detour { try await connection.query(detour.leave, doing: "preparing to analyse tables") }
      }
    }
  }
}
