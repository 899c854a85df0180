import LibPQ
import LogicalReplication

/// Rows that a stream has changed.
extension Comparison {
  func compare(
    _ tables: [ComparedTable], _ touched: [RelationName: ChangedRows], _ report: inout VerificationReport
  ) async throws {
    scan.meter.begin(tables: tables.count, bytes: 0)
    let outcomes = try await withThrowingTaskGroup(of: Outcome.self) { group in
      for (index, tables) in shares(of: tables).enumerated() {
        group.addTask { try await compare(tables, touched, on: index) }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    report.tables += outcomes.flatMap(\.compared)
    let whole = outcomes.flatMap(\.whole)
    guard !whole.isEmpty else { return }
    scan.meter.begin(tables: tables.count, bytes: whole.reduce(0) { $0 &+ $1.bytes })
    let first = report.tables.count
    try await compare(whole, &report)
    for index in first..<report.tables.count {
      let why = "all of its rows, because the changed ones are too many or cannot be looked up"
      report.tables[index].reason = [why, report.tables[index].reason].compactMap { $0 }
        .joined(separator: "; ")
    }
  }

  /// Looks up a few of each table's keys, and discards the result: a session is slow the first time it uses a
  /// table.
  func warmUp(
    _ tables: [ComparedTable], _ touched: [RelationName: ChangedRows], until end: ContinuousClock.Instant
  ) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, tables) in shares(of: tables).enumerated() {
        group.addTask {
          let (lane, _) = lane(tables, touched, limit: 100)
          try await ChangedRowLookup(self).warmUp(lane, on: index, until: end)
        }
      }
      try await group.waitForAll()
    }
  }

  /// The tables of each session, the same ones each time.
  private func shares(of tables: [ComparedTable]) -> [[ComparedTable]] {
    let count = min(source.sessions.count, target.sessions.count)
    var shares = [[ComparedTable]](repeating: [], count: count)
    for table in tables { shares[Int(table.source.oid) % count].append(table) }
    return shares
  }

  private struct Outcome: Sendable {
    var compared: [VerificationReport.Table]
    /// What must be read as a whole.
    var whole: [ComparedTable]
  }

  private func compare(
    _ tables: [ComparedTable], _ touched: [RelationName: ChangedRows], on index: Int
  ) async throws -> Outcome {
    let lookup = ChangedRowLookup(self)
    let (lane, whole) = lane(tables, touched)
    var outcome = Outcome(compared: [], whole: whole)
    var differing: [ComparedTable] = []
    for (table, sums) in zip(lane.tables, try await lookup.sums(lane, on: index)) {
      scan.meter.finishTable()
      guard sums.areEqual else {
        differing.append(table)
        continue
      }
      var result = VerificationReport.Table(
        name: table.name, verdict: table.problems.isEmpty ? .equal : .different, method: table.method,
        reason: table.reason)
      result.sourceRows = sums.source.rows
      result.targetRows = sums.target.rows
      result.take(problems: table.problems)
      outcome.compared.append(result)
    }
    let (rows, _) = self.lane(differing, touched, asking: .rows)
    outcome.compared += try await lookup.differences(rows, on: index)
    return outcome
  }

  private func lane(
    _ tables: [ComparedTable], _ touched: [RelationName: ChangedRows],
    asking question: ChangedRowLookup.Question = .sum, limit: Int = .max
  ) -> (lane: ChangedRowLookup.Lane, whole: [ComparedTable]) {
    let lookup = ChangedRowLookup(self)
    var lane = ChangedRowLookup.Lane()
    let whole = tables.filter { table in
      guard case .keys(let batches)? = touched[table.name] else { return true }
      return !lookup.add(question, batches, of: table, limit: limit, to: &lane)
    }
    return (lane, whole)
  }
}
