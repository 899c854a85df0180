import LibPQ
import LogicalReplication

/// One running comparison: both ends under their snapshots, and what they have.
struct Comparison: Sendable {
  let request: Verification
  let source: VerifiedEnd
  let target: VerifiedEnd
  let ends: ComparedEnds
  let scan: TableScan

  var options: Verification.Options { request.options }
  var narrowing: Narrowing { Narrowing(scan: scan, namedRows: options.namedRows) }

  init(
    _ request: Verification, _ source: VerifiedEnd, _ target: VerifiedEnd, _ ends: ComparedEnds,
    _ meter: VerificationMeter
  ) {
    (self.request, self.source, self.target, self.ends) = (request, source, target, ends)
    scan = TableScan(
      source: source, target: target, rateLimit: RateLimit(request.options.maxBytesPerSecond),
      maxBytesPerSecond: request.options.maxBytesPerSecond, meter: meter)
  }

  // MARK: Tables

  /// The tables to be compared that both ends have; problems of others go into the report.
  func tables(_ report: inout VerificationReport, only names: Set<RelationName>? = nil) -> [ComparedTable] {
    var tables: [ComparedTable] = []
    for relation in request.relations where relation.kind == .table && names?.contains(relation.name) ?? true
    {
      guard let here = ends.source[relation.name] else {
        // While writes continue, it may have just been dropped or renamed.
        report.tables.append(
          VerificationReport.Table(
            name: relation.name, verdict: options.scope == .streaming ? .notCompared : .different,
            method: .none, reason: "it is no longer on the source"))
        continue
      }
      guard let there = ends.target[relation.name] else {
        var missing = VerificationReport.Table(
          name: relation.name, verdict: .different, method: .none, reason: "it is missing on the target")
        missing.sourceOID = here.oid
        report.tables.append(missing)
        continue
      }
      tables.append(ComparedTable(source: here, target: there, ends.agreement))
    }
    return tables
  }

  /// Compares all rows of the tables; those that the stream does not carry are only counted while it runs.
  /// - Parameter besides: how many bytes of other things are to be read.
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

  /// Compares all rows of the tables, and reports those that differ.
  func compare(_ tables: [ComparedTable], _ report: inout VerificationReport) async throws {
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
}

extension VerificationReport.Table {
  mutating func take(_ sums: TableScan.Sums, _ table: ComparedTable, hasProblems: Bool = true) {
    (sourceOID, targetOID) = (table.source.oid, table.target.oid)
    sourceRows = sums.source.rows
    targetRows = sums.target.rows
    bytes = table.bytes
    seconds = sums.seconds
    if hasProblems { take(problems: table.problems) }
  }

  mutating func take(problems: [String]) {
    guard !problems.isEmpty else { return }
    reason = (problems + [reason].compactMap { $0 }).joined(separator: "; ")
  }
}
