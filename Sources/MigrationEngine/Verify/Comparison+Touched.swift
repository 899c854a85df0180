import LibPQ
import LogicalReplication

/// Rows that a stream has touched.
extension Comparison {
  func compare(
    _ tables: [ComparedTable], _ touched: [RelationName: TouchedRows], _ report: inout VerificationReport
  ) async throws {
    let lookup = TouchedLookup(self)
    let (lanes, whole) = lanes(tables, touched, lookup)
    scan.meter.begin(tables: tables.count, bytes: 0)
    report.tables += try await withThrowingTaskGroup(of: [VerificationReport.Table].self) { group in
      for (index, lane) in lanes.enumerated() {
        group.addTask { try await lookup.compare(lane, on: index) }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    guard !whole.isEmpty else { return }
    scan.meter.begin(tables: tables.count, bytes: whole.reduce(0) { $0 &+ $1.bytes })
    let first = report.tables.count
    try await compare(whole, &report)
    for index in first..<report.tables.count {
      let why = "all of its rows, because those that were touched are too many or cannot be looked up"
      report.tables[index].reason = [why, report.tables[index].reason].compactMap { $0 }
        .joined(separator: "; ")
    }
  }

  /// Looks up a few of each table's keys, and forgets what was found: a session is slow the first time that
  /// it meets a table.
  func warmUp(
    _ tables: [ComparedTable], _ touched: [RelationName: TouchedRows], until end: ContinuousClock.Instant
  ) async throws {
    let lookup = TouchedLookup(self)
    let (lanes, _) = lanes(tables, touched, lookup, limit: 100)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, lane) in lanes.enumerated() {
        group.addTask { try await lookup.warmUp(lane, on: index, until: end) }
      }
      try await group.waitForAll()
    }
  }

  /// Which session looks up what, the same for the same tables; and the tables that must be read as a whole.
  private func lanes(
    _ tables: [ComparedTable], _ touched: [RelationName: TouchedRows], _ lookup: TouchedLookup,
    limit: Int = .max
  ) -> (lanes: [TouchedLookup.Lane], whole: [ComparedTable]) {
    let count = min(source.sessions.count, target.sessions.count)
    var lanes = [TouchedLookup.Lane](repeating: TouchedLookup.Lane(), count: count)
    var whole: [ComparedTable] = []
    for table in tables {
      let lane = Int(table.source.oid) % count
      guard case .keys(let batches)? = touched[table.name],
        lookup.add(batches, of: table, limit: limit, to: &lanes[lane])
      else {
        whole.append(table)
        continue
      }
    }
    return (lanes, whole)
  }
}
