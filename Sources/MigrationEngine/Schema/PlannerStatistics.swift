package import LibPQ

/// Statistics for the stream's statements and the application's first queries.
package enum PlannerStatistics {
  /// Tables in one statement; each is a transaction of its own.
  private static let batchSize = 50

  /// - Parameter relations: partitions may be among them; ANALYZE of a partitioned table reads them too.
  package static func refresh(_ relations: [Relation], on target: ConnectionString, workers: Int) async throws
  {
    let names = relations.filter { !$0.isPartition }.sorted { $0.bytes > $1.bytes }.map(\.name.description)
    let workers = min(workers, names.count)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for worker in 0..<workers {
        // Dealt out like cards, so that each has as much to do.
        let share = stride(from: worker, to: names.count, by: workers).map { names[$0] }
        group.addTask { try await analyze(share, on: target) }
      }
      try await group.waitForAll()
    }
  }

  private static func analyze(_ names: [String], on target: ConnectionString) async throws {
    let connection = try await Session.open(target, end: "target", purpose: "analyze")
    try await closing(connection) {
      for batch in names.batches(of: batchSize) {
        try await connection.query("ANALYZE \(batch.joined(separator: ", "))", doing: "analysing tables")
      }
    }
  }
}
