import LibPQ

/// Looks up rows by keys that came in a stream, on both ends.
struct TouchedLookup: Sendable {
  let comparison: Comparison

  init(_ comparison: Comparison) { self.comparison = comparison }

  /// What one session of each end looks up.
  struct Lane: Sendable {
    fileprivate(set) var tables: [ComparedTable] = []
    fileprivate(set) var pipelines: [Pipeline] = []
  }

  /// Statements that travel together.
  struct Pipeline: Sendable {
    var source = StatementBatch()
    var target = StatementBatch()
    /// Of each statement the table, by its place in the lane.
    var tables: [Int] = []

    fileprivate var isFull: Bool { tables.count >= 100 || source.byteCount > 256 << 10 }
  }

  /// So many keys travel in one statement.
  private static let keysPerStatement = 20_000

  /// A column of a key, as one end is asked for it.
  private struct Parameter {
    var key: ComparedTable.KeyParameter
    var syntax: ArraySyntax
  }

  /// - Parameter limit: so many keys of each batch.
  /// - Returns: false when rows cannot be found by such keys without operators of the user's.
  func add(
    _ batches: [TouchedKeys], of table: ComparedTable, limit: Int = .max, to lane: inout Lane
  ) -> Bool {
    var parts: [(keys: TouchedKeys, source: [Parameter], target: [Parameter])] = []
    for keys in batches where keys.count > 0 {
      guard let equalities = equalities(keys, table),
        let here = parameters(.source, keys, equalities, table),
        let there = parameters(.target, keys, equalities, table)
      else { return false }
      parts.append((keys, here, there))
    }
    lane.tables.append(table)
    for part in parts {
      let count = min(part.keys.count, limit)
      for start in stride(from: 0, to: count, by: Self.keysPerStatement) {
        let rows = start..<min(count, start + Self.keysPerStatement)
        if lane.pipelines.last?.isFull ?? true { lane.pipelines.append(Pipeline()) }
        let last = lane.pipelines.count - 1
        Self.call(table, .source, part.source, rows, of: part.keys, &lane.pipelines[last].source)
        Self.call(table, .target, part.target, rows, of: part.keys, &lane.pipelines[last].target)
        lane.pipelines[last].tables.append(lane.tables.count - 1)
      }
    }
    return true
  }

  /// The index's own equality for each column of the key: only PostgreSQL's.
  private func equalities(_ keys: TouchedKeys, _ table: ComparedTable) -> [String]? {
    let names = Set(keys.columns.map(\.name))
    guard
      let index = comparison.ends.indexes[table.source.oid]?.first(where: {
        Set($0.keys.map(\.column)) == names
      })
    else { return nil }
    let equalities = keys.columns.compactMap { column in
      index.keys.first { $0.column == column.name }?.equality
    }
    guard equalities.count == keys.columns.count,
      equalities.allSatisfy({ $0.hasPrefix("OPERATOR(pg_catalog.") })
    else { return nil }
    return equalities
  }

  private func parameters(
    _ end: ComparedTable.End, _ keys: TouchedKeys, _ equalities: [String], _ table: ComparedTable
  ) -> [Parameter]? {
    var parameters: [Parameter] = []
    for (key, equality) in zip(keys.columns, equalities) {
      guard let column = table.columns.first(where: { $0.name == key.name }),
        case .binary = column.form
      else { return nil }
      // Of the base type: a domain's array would run the domain's checks.
      let own = end == .source ? column.source : column.target
      guard let type = own.arrayType else { return nil }
      parameters.append(
        Parameter(
          key: ComparedTable.KeyParameter(column: key.name, equality: equality, arrayType: type),
          syntax: keys.format == .binary
            ? .binary(elementOID: own.baseOID) : .text(delimiter: own.delimiter, isPlain: false)))
    }
    return parameters
  }

  private static func call(
    _ table: ComparedTable, _ end: ComparedTable.End, _ parameters: [Parameter], _ rows: Range<Int>,
    of keys: TouchedKeys, _ batch: inout StatementBatch
  ) {
    for (column, parameter) in parameters.enumerated() {
      append(rows, column, of: keys, parameter.syntax, to: &batch)
    }
    batch.call(table.rows(end, keys: parameters.map(\.key)), expectedRows: nil)
  }

  private static func append(
    _ rows: Range<Int>, _ column: Int, of keys: TouchedKeys, _ syntax: ArraySyntax,
    to batch: inout StatementBatch
  ) {
    // In binary an element comes behind its length.
    var values: [UInt8] = []
    var ends: [Int] = []
    for row in rows {
      let value = keys.value(row: row, column: column)
      if keys.format == .binary { values.append(number: Int32(value.count)) }
      values.append(contentsOf: value)
      ends.append(values.count)
    }
    values.withUnsafeBytes { buffer in
      batch.appendArray(count: rows.count, syntax) { index in
        UnsafeRawBufferPointer(rebasing: buffer[(index == 0 ? 0 : ends[index - 1])..<ends[index]])
      }
    }
  }

  // MARK: Looking up

  private struct Found {
    private(set) var marks: [RowMark] = []
    /// The same key may be in several batches.
    private var seen: Set<String> = []

    mutating func add(_ rows: Rows) throws {
      for row in rows {
        let mark = try RowMark(row)
        if seen.insert(mark.place).inserted { marks.append(mark) }
      }
    }
  }

  /// - Parameter index: of the sessions that look up the lane.
  /// - Returns: what of the rows of these keys differs.
  func compare(_ lane: Lane, on index: Int) async throws -> [VerificationReport.Table] {
    var sources = [Found](repeating: Found(), count: lane.tables.count)
    var targets = sources
    for pipeline in lane.pipelines {
      try Task.checkCancellation()
      let (here, there) = try await run(pipeline, of: lane, on: index)
      for (call, table) in pipeline.tables.enumerated() {
        comparison.scan.meter.add(bytes: 0, rows: Int64(here[call].count &+ there[call].count))
        try sources[table].add(here[call])
        try targets[table].add(there[call])
      }
    }
    var compared: [VerificationReport.Table] = []
    for (place, table) in lane.tables.enumerated() {
      compared.append(try await result(table, sources[place].marks, targets[place].marks))
      comparison.scan.meter.finishTable()
    }
    return compared
  }

  /// Forgets what it finds: only so that the sessions have met the tables.
  func warmUp(_ lane: Lane, on index: Int, until end: ContinuousClock.Instant) async throws {
    for pipeline in lane.pipelines where ContinuousClock.now < end {
      _ = try await run(pipeline, of: lane, on: index)
    }
  }

  private func run(
    _ pipeline: Pipeline, of lane: Lane, on index: Int
  ) async throws -> (source: [Rows], target: [Rows]) {
    @Sendable func rows(_ batch: StatementBatch, _ session: Connection) async throws -> [Rows] {
      try await session.rows(of: batch) { call in
        "comparing the changed rows of \(lane.tables[pipeline.tables[call]].name)"
      }
    }
    async let here = rows(pipeline.source, comparison.source.sessions[index])
    async let there = rows(pipeline.target, comparison.target.sessions[index])
    return try await (here, there)
  }

  private func result(
    _ table: ComparedTable, _ source: [RowMark], _ target: [RowMark]
  ) async throws -> VerificationReport.Table {
    let found = RowComparison(source: source, target: target, limit: comparison.options.namedRows)
    let isEqual = found.missing + found.extra + found.different == 0 && table.problems.isEmpty
    var result = VerificationReport.Table(
      name: table.name, verdict: isEqual ? .equal : .different, method: table.method, reason: table.reason)
    result.sourceRows = source.reduce(0) { $0 &+ $1.count }
    result.targetRows = target.reduce(0) { $0 &+ $1.count }
    try await comparison.narrowing.note(found, of: table, in: &result)
    if !table.problems.isEmpty {
      result.reason = (table.problems + [result.reason].compactMap { $0 }).joined(separator: "; ")
    }
    return result
  }
}
