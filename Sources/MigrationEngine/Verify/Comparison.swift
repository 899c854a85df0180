import LibPQ
import LogicalReplication

/// One comparison under way: both ends under their snapshots, and what they agree on.
struct Comparison: Sendable {
  let request: Verification
  let source: VerifiedEnd
  let target: VerifiedEnd
  let agreement: ComparedTable.Agreement
  let scan: TableScan
  /// What both ends have under their snapshots.
  let sourceShapes: [RelationName: TableShape]
  let targetShapes: [RelationName: TableShape]
  let notes: [String]

  var options: Verification.Options { request.options }
  var narrowing: Narrowing { Narrowing(scan: scan, namedRows: options.namedRows) }

  init(
    _ request: Verification, _ source: VerifiedEnd, _ target: VerifiedEnd, _ meter: VerificationMeter
  ) async throws {
    (self.request, self.source, self.target) = (request, source, target)
    let versions = (source.versionNumber, target.versionNumber)
    let writesFloatsDifferently = (versions.0 < 120_000) != (versions.1 < 120_000)
    let sharesEncoding = source.encoding == target.encoding
    let digest = try await Self.digest(
      request.options.digests, source, target, sharesEncoding: sharesEncoding)
    agreement = ComparedTable.Agreement(
      digest: digest, sharesEncoding: sharesEncoding, writesFloatsDifferently: writesFloatsDifferently)
    scan = TableScan(
      source: source, target: target, rateLimit: RateLimit(request.options.maxBytesPerSecond),
      maxBytesPerSecond: request.options.maxBytesPerSecond, meter: meter)
    async let here = TableShape.read(from: source.first, findsFloats: writesFloatsDifferently)
    async let there = TableShape.read(from: target.first, findsFloats: writesFloatsDifferently)
    (sourceShapes, targetShapes) = try await (here, there)
    var notes: [String] = []
    if digest.function == .md5, min(versions.0, versions.1) >= 110_000 {
      notes.append("the servers' hash functions differ, so that MD5 is used")
    }
    self.notes = notes
  }

  /// The fastest digest that both ends compute alike.
  private static func digest(
    _ functions: [DigestFunction], _ source: VerifiedEnd, _ target: VerifiedEnd, sharesEncoding: Bool
  ) async throws -> Digest {
    let version = min(source.versionNumber, target.versionNumber)
    let seed = Int64.random(in: 1 ... .max)
    for function in functions {
      switch function {
      case .record where version < 140_000: continue
      case .array where version < 110_000: continue
      case .record, .array, .md5: break
      }
      let digest = Digest(function: function, seed: seed)
      let sql = digest.probe(sharesEncoding: sharesEncoding)
      async let here = source.first.query(sql, doing: "trying out a digest", within: .seconds(30))
      async let there = target.first.query(sql, doing: "trying out a digest", within: .seconds(30))
      let (left, right) = try await (here.first, there.first)
      if try left?.text("key") == right?.text("key"), try left?.text("row") == right?.text("row") {
        return digest
      }
    }
    throw MigrationError(
      .failed, doing: "looking for a digest that both ends compute alike",
      reason: "the source (\(source.version)) and the target (\(target.version)) send the same values in "
        + "different forms",
      remedy: "Compare them with --verify counts, and tell whoever made these servers.")
  }

  // MARK: Tables

  /// The tables that are to be compared and are on both ends; what is wrong with others goes into the report.
  func tables(_ report: inout VerificationReport, only names: Set<RelationName>? = nil) -> [ComparedTable] {
    var tables: [ComparedTable] = []
    for relation in request.relations where relation.kind == .table && names?.contains(relation.name) ?? true
    {
      guard let here = sourceShapes[relation.name] else {
        // While writes go on it may have been dropped, or renamed, a moment ago.
        report.tables.append(
          VerificationReport.Table(
            name: relation.name, verdict: options.scope == .streaming ? .notCompared : .different,
            method: .none, reason: "it is not on the source any more"))
        continue
      }
      guard let there = targetShapes[relation.name] else {
        var missing = VerificationReport.Table(
          name: relation.name, verdict: .different, method: .none, reason: "it is missing on the target")
        missing.sourceOID = here.oid
        report.tables.append(missing)
        continue
      }
      tables.append(ComparedTable(source: here, target: there, agreement))
    }
    return tables
  }

  /// Compares all rows of the tables; those that no stream carries are only counted while it runs.
  /// - Parameter besides: bytes that are to be read of other things.
  func compareInFull(
    _ tables: [ComparedTable], besides: Int64, _ report: inout VerificationReport
  ) async throws {
    let isCounted = { (table: ComparedTable) in table.source.isUnlogged && options.scope == .streaming }
    let digested = tables.filter { !isCounted($0) }
    let counted = tables.filter(isCounted)
    scan.meter.begin(tables: tables.count, bytes: tables.reduce(besides) { $0 &+ $1.bytes })
    try await compare(digested, &report)
    let sums = try await scan.sums(of: counted, onlyCounts: true)
    for (table, sums) in zip(counted, sums) {
      var result = VerificationReport.Table(
        name: table.name, verdict: .notCompared, method: .count,
        reason: "it is unlogged: only the cutover carries its rows over")
      result.take(sums, table)
      report.tables.append(result)
    }
  }

  /// Compares all rows of the tables, and names those that differ.
  private func compare(_ tables: [ComparedTable], _ report: inout VerificationReport) async throws {
    for (table, sums) in zip(tables, try await scan.sums(of: tables, onlyCounts: false)) {
      var result = VerificationReport.Table(
        name: table.name, verdict: sums.areEqual && table.problems.isEmpty ? .equal : .different,
        method: table.method, reason: table.reason)
      result.take(sums, table)
      if !sums.areEqual, sums.seconds <= options.longestNarrowed {
        try await narrowing.narrow(table, sums, &result)
      }
      report.tables.append(result)
    }
  }

  func count(_ tables: [ComparedTable], _ report: inout VerificationReport) async throws {
    scan.meter.begin(tables: tables.count, bytes: tables.reduce(0) { $0 &+ $1.bytes })
    for (table, sums) in zip(tables, try await scan.sums(of: tables, onlyCounts: true)) {
      let isExpected = table.source.isUnlogged && options.scope == .streaming
      var result = VerificationReport.Table(
        name: table.name, verdict: sums.areEqual ? .equal : isExpected ? .notCompared : .different,
        method: .count,
        reason: isExpected ? "it is unlogged: only the cutover carries its rows over" : nil)
      result.take(sums, table, hasProblems: false)
      result.missing = max(0, sums.source.rows &- sums.target.rows)
      result.extra = max(0, sums.target.rows &- sums.source.rows)
      report.tables.append(result)
    }
  }

  // MARK: Touched rows

  /// Compares the rows that a stream has touched.
  func compare(
    _ tables: [ComparedTable], _ touched: [RelationName: TouchedRows], _ report: inout VerificationReport
  ) async throws {
    var whole: [ComparedTable] = []
    let lookup = try await TouchedLookup(self)
    scan.meter.begin(tables: tables.count, bytes: 0)
    for table in tables {
      guard case .keys(let batches)? = touched[table.name], let statements = lookup.statements(batches, table)
      else {
        whole.append(table)
        continue
      }
      try await report.tables.append(lookup.compare(table, statements))
      scan.meter.finishTable()
    }
    scan.meter.begin(tables: tables.count, bytes: whole.reduce(0) { $0 &+ $1.bytes })
    let first = report.tables.count
    try await compare(whole, &report)
    for index in first..<report.tables.count {
      let why = "all of its rows, because those that were touched are too many or cannot be looked up"
      report.tables[index].reason = [why, report.tables[index].reason].compactMap { $0 }
        .joined(separator: "; ")
    }
  }
}

extension VerificationReport.Table {
  mutating func take(_ sums: TableScan.Sums, _ table: ComparedTable, hasProblems: Bool = true) {
    (sourceOID, targetOID) = (table.source.oid, table.target.oid)
    sourceRows = sums.source.rows
    targetRows = sums.target.rows
    bytes = table.bytes
    seconds = sums.seconds
    if hasProblems, !table.problems.isEmpty {
      reason = (table.problems + [reason].compactMap { $0 }).joined(separator: "; ")
    }
  }
}
