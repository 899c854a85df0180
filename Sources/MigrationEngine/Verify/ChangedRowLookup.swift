import LibPQ

/// Looks up rows on both ends by keys from the stream.
struct ChangedRowLookup: Sendable {
  let comparison: Comparison

  init(_ comparison: Comparison) { self.comparison = comparison }

  /// What is asked about the rows with a table's keys.
  enum Question: Sendable { case sum, rows }

  /// What one session on each end looks up.
  struct Lane: Sendable {
    fileprivate(set) var tables: [ComparedTable] = []
    fileprivate(set) var pipelines: [Pipeline] = []
  }

  /// Statements sent together.
  struct Pipeline: Sendable {
    var source = StatementBatch()
    var target = StatementBatch()
    /// The table of each statement, by its index in the lane.
    var tables: [Int] = []

    fileprivate var isFull: Bool { tables.count >= 100 || source.byteCount > 256 << 10 }
  }

  /// How many keys one statement carries.
  private static let keysPerStatement = 20_000

  /// A column of a key, as a parameter for one end.
  private struct Parameter {
    var key: ComparedTable.KeyParameter
    var syntax: ArraySyntax
  }

  /// The keys of one statement.
  private struct KeySlice {
    var keys: ChangedKeys
    var rows: Range<Int>
  }

  /// - Parameter limit: how many keys of each batch.
  /// - Returns: false when such keys cannot be looked up without user-defined operators.
  func add(
    _ question: Question, _ batches: [ChangedKeys], of table: ComparedTable, limit: Int = .max,
    to lane: inout Lane
  ) -> Bool {
    var parts: [(keys: ChangedKeys, source: [Parameter], target: [Parameter])] = []
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
        let rows = KeySlice(keys: part.keys, rows: start..<min(count, start + Self.keysPerStatement))
        if lane.pipelines.last?.isFull ?? true { lane.pipelines.append(Pipeline()) }
        let last = lane.pipelines.count - 1
        Self.call(question, table, .source, part.source, rows, &lane.pipelines[last].source)
        Self.call(question, table, .target, part.target, rows, &lane.pipelines[last].target)
        lane.pipelines[last].tables.append(lane.tables.count - 1)
      }
    }
    return true
  }

  /// The index's equality operator for each column of the key: only PostgreSQL's own.
  private func equalities(_ keys: ChangedKeys, _ table: ComparedTable) -> [String]? {
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
    _ end: ComparedTable.End, _ keys: ChangedKeys, _ equalities: [String], _ table: ComparedTable
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
    _ question: Question, _ table: ComparedTable, _ end: ComparedTable.End, _ parameters: [Parameter],
    _ rows: KeySlice, _ batch: inout StatementBatch
  ) {
    for (column, parameter) in parameters.enumerated() {
      append(rows.rows, column, of: rows.keys, parameter.syntax, to: &batch)
    }
    let keys = parameters.map(\.key)
    switch question {
    case .sum: batch.call(table.sum(end, keys: keys), expectedRows: nil)
    case .rows: batch.call(table.rows(end, keys: keys), expectedRows: nil, isPrepared: false)
    }
  }

  private static func append(
    _ rows: Range<Int>, _ column: Int, of keys: ChangedKeys, _ syntax: ArraySyntax,
    to batch: inout StatementBatch
  ) {
    // In binary an element is preceded by its length.
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

  /// - Parameter index: the number of the sessions that look up the lane.
  /// - Returns: for each table, the sums of its keys' rows. A row whose key is in several batches counts
  ///   several times, on both ends.
  func sums(_ lane: Lane, on index: Int) async throws -> [TableScan.Sums] {
    var sums = [TableScan.Sums](repeating: TableScan.Sums(), count: lane.tables.count)
    for pipeline in lane.pipelines {
      try Task.checkCancellation()
      let (here, there) = try await execute(pipeline, of: lane, on: index)
      for (call, table) in pipeline.tables.enumerated() {
        let source = try TableScan.Sum(here[call])
        sums[table].source.add(source)
        sums[table].target.add(try TableScan.Sum(there[call]))
        comparison.scan.meter.add(bytes: 0, rows: source.rows)
      }
    }
    return sums
  }

  /// - Returns: for each table, which of its keys' rows differ.
  func differences(_ lane: Lane, on index: Int) async throws -> [VerificationReport.Table] {
    var sources = [Found](repeating: Found(), count: lane.tables.count)
    var targets = sources
    for pipeline in lane.pipelines {
      try Task.checkCancellation()
      let (here, there) = try await execute(pipeline, of: lane, on: index)
      for (call, table) in pipeline.tables.enumerated() {
        try sources[table].add(here[call])
        try targets[table].add(there[call])
      }
    }
    var compared: [VerificationReport.Table] = []
    for (place, table) in lane.tables.enumerated() {
      compared.append(try await result(table, sources[place].marks, targets[place].marks))
    }
    return compared
  }

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

  /// Discards the result: only warms up the sessions' caches.
  func warmUp(_ lane: Lane, on index: Int, until end: ContinuousClock.Instant) async throws {
    for pipeline in lane.pipelines where ContinuousClock.now < end {
      _ = try await execute(pipeline, of: lane, on: index)
    }
  }

  private func execute(
    _ pipeline: Pipeline, of lane: Lane, on index: Int
  ) async throws -> (source: [Rows], target: [Rows]) {
    @Sendable func rows(_ batch: StatementBatch, _ session: Connection) async throws -> [Rows] {
      try await session.rows(of: batch, within: .seconds(600)) { call in
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
    var result = VerificationReport.Table(
      name: table.name, verdict: .different, method: table.method, reason: table.reason)
    result.sourceRows = source.reduce(0) { $0 &+ $1.count }
    result.targetRows = target.reduce(0) { $0 &+ $1.count }
    try await comparison.narrowing.note(found, of: table, in: &result)
    result.take(problems: table.problems)
    return result
  }
}

extension TableScan.Sum {
  fileprivate init(_ rows: Rows) throws {
    self.init()
    guard let row = rows.first else { return }
    self = Self(
      rows: try row.integer("rows", as: Int64.self), digest: UInt64(sum: try row.optional("digest")))
  }
}
