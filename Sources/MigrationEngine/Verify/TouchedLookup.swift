import LibPQ

/// Looks up rows by keys that came in a stream, on both ends.
struct TouchedLookup: Sendable {
  private let comparison: Comparison
  /// Unique indexes of the source's tables.
  private let indexes: [UInt32: [UniqueIndex]]

  init(_ comparison: Comparison) async throws {
    self.comparison = comparison
    indexes = try await UniqueIndex.read(from: comparison.source.first)
  }

  /// A statement with its parameters for each end.
  struct Statements: Sendable {
    var source: StatementBatch
    var target: StatementBatch
  }

  /// So many keys travel in one statement.
  private static let keysPerStatement = 20_000

  /// - Returns: nil when rows cannot be found by such keys without operators of the user's.
  func statements(_ batches: [TouchedKeys], _ table: ComparedTable) -> [Statements]? {
    var statements: [Statements] = []
    for keys in batches where keys.count > 0 {
      guard let equalities = equalities(keys, table) else { return nil }
      for start in stride(from: 0, to: keys.count, by: Self.keysPerStatement) {
        let rows = start..<min(keys.count, start + Self.keysPerStatement)
        guard let here = statement(.source, rows, of: keys, equalities, table),
          let there = statement(.target, rows, of: keys, equalities, table)
        else { return nil }
        statements.append(Statements(source: here, target: there))
      }
    }
    return statements
  }

  /// The index's own equality for each column of the key: only PostgreSQL's.
  private func equalities(_ keys: TouchedKeys, _ table: ComparedTable) -> [String]? {
    let names = Set(keys.columns.map(\.name))
    guard let index = indexes[table.source.oid]?.first(where: { Set($0.keys.map(\.column)) == names }) else {
      return nil
    }
    let equalities = keys.columns.compactMap { column in
      index.keys.first { $0.column == column.name }?.equality
    }
    guard equalities.count == keys.columns.count,
      equalities.allSatisfy({ $0.hasPrefix("OPERATOR(pg_catalog.") })
    else { return nil }
    return equalities
  }

  private func statement(
    _ end: ComparedTable.End, _ rows: Range<Int>, of keys: TouchedKeys, _ equalities: [String],
    _ table: ComparedTable
  ) -> StatementBatch? {
    var parameters: [ComparedTable.KeyParameter] = []
    var syntaxes: [ArraySyntax] = []
    for (key, equality) in zip(keys.columns, equalities) {
      guard let column = table.columns.first(where: { $0.name == key.name }),
        case .binary = column.form
      else { return nil }
      // Of the base type: a domain's array would run the domain's checks.
      let own = end == .source ? column.source : column.target
      guard let type = own.arrayType else { return nil }
      parameters.append(
        ComparedTable.KeyParameter(column: key.name, equality: equality, arrayType: type))
      syntaxes.append(
        keys.format == .binary
          ? .binary(elementOID: own.baseOID) : .text(delimiter: own.delimiter, isPlain: false))
    }
    var batch = StatementBatch()
    for (column, syntax) in syntaxes.enumerated() {
      Self.append(rows, column, of: keys, syntax, to: &batch)
    }
    batch.call(table.rows(end, keys: parameters), expectedRows: nil)
    return batch
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

  /// - Returns: what of the rows of these keys differs.
  func compare(_ table: ComparedTable, _ statements: [Statements]) async throws -> VerificationReport.Table {
    let began = ContinuousClock.now
    async let here = marks(table, comparison.source, statements.map(\.source))
    async let there = marks(table, comparison.target, statements.map(\.target))
    let (source, target) = try await (here, there)
    let found = RowComparison(source: source, target: target, limit: comparison.options.namedRows)
    let isEqual = found.missing + found.extra + found.different == 0
    var result = VerificationReport.Table(
      name: table.name, verdict: isEqual ? .equal : .different, method: table.method, reason: table.reason)
    result.sourceRows = source.reduce(0) { $0 &+ $1.count }
    result.targetRows = target.reduce(0) { $0 &+ $1.count }
    try await comparison.narrowing.note(found, of: table, in: &result)
    if !table.problems.isEmpty {
      result.verdict = .different
      result.reason = (table.problems + [result.reason].compactMap { $0 }).joined(separator: "; ")
    }
    result.seconds = (ContinuousClock.now - began) / .seconds(1)
    return result
  }

  private func marks(
    _ table: ComparedTable, _ end: VerifiedEnd, _ statements: [StatementBatch]
  ) async throws -> [RowMark] {
    var marks: [RowMark] = []
    // The same key may be in several batches.
    var seen: Set<String> = []
    for statement in statements {
      let rows = try await end.first.query(statement, doing: "comparing the changed rows of \(table.name)")
      comparison.scan.meter.add(bytes: 0, rows: Int64(rows.count))
      for row in rows {
        let mark = try RowMark(row)
        if seen.insert(mark.place).inserted { marks.append(mark) }
      }
    }
    return marks
  }
}
