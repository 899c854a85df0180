import LibPQ
import LogicalReplication

/// A verification whose sessions are open and idle, so that it can begin at once, each time under new
/// snapshots.
package struct PreparedVerification: Sendable {
  private let request: Verification
  private let source: VerifiedEnd
  private let target: VerifiedEnd
  /// Read in advance; nil: when it begins.
  private var studied: ComparedEnds?

  private var options: Verification.Options { request.options }

  init(_ request: Verification, source: VerifiedEnd, target: VerifiedEnd) {
    (self.request, self.source, self.target) = (request, source, target)
  }

  /// Closes the sessions; the comparison cannot run after that.
  package func close() async {
    await source.close()
    await target.close()
  }

  // MARK: In advance

  /// Reads what both ends have, for comparisons before which it does not change.
  mutating func study() async throws {
    studied = try await begun { source, target in
      try await ComparedEnds.read(source, target, digests: options.digests, looksUpKeys: true)
    }
  }

  mutating func forget() { studied = nil }

  /// Warms up the sessions' caches for the tables of these rows, for a few seconds at most.
  func warmUp(_ rows: [RelationName: ChangedRows]) async throws {
    try await comparing(.changed) { comparison, report in
      try await comparison.warmUp(
        comparison.tables(&report, only: Set(rows.keys)), rows, until: .now + .seconds(5))
    }
  }

  // MARK: Comparisons

  /// As `Verification.run`.
  package func compare() async throws -> VerificationReport {
    try await comparing(.full) { comparison, report in
      async let schema = comparison.schema()
      let began = ContinuousClock.now
      let inventory = try await comparison.largeObjects(&report)
      try await comparison.compareInFull(
        comparison.tables(&report), besides: inventory?.bytes ?? 0, &report)
      if options.comparesObjects { try await comparison.compareObjects(inventory, &report) }
      report.readingSeconds = (ContinuousClock.now - began) / .seconds(1)
      report.objects += try await schema
    }
  }

  /// The current state of these large objects on both ends.
  func largeObjects(_ oids: [UInt32]) async throws -> [UInt32: LargeObjectComparison.Pair] {
    try await begun { source, target in
      let comparison = LargeObjectComparison(source: source, target: target)
      return try await comparison.digests(comparison.inventory(oids))
    }
  }

  /// Counts the rows of all tables, and no more.
  package func count() async throws -> VerificationReport {
    try await comparing(.counts) { comparison, report in
      try await comparison.count(comparison.tables(&report), &report)
    }
  }

  /// Compares these rows on ends where writes are stopped; a table that is not named has none to compare.
  func compare(rows: [RelationName: ChangedRows]) async throws -> VerificationReport {
    async let here: Void = source.beginHeldStill()
    async let there: Void = target.beginHeldStill()
    _ = try await (here, there)
    let report = try await compare(.changed, source, target) { comparison, report in
      let tables = comparison.tables(&report, only: Set(rows.keys))
      try await comparison.compare(tables, rows, &report)
    }
    try await rest()
    return report
  }

  @discardableResult
  private func comparing(
    _ extent: VerificationReport.Extent,
    _ body: (Comparison, inout VerificationReport) async throws -> Void
  ) async throws -> VerificationReport {
    try await begun { source, target in try await compare(extent, source, target, body) }
  }

  private func compare(
    _ extent: VerificationReport.Extent, _ source: VerifiedEnd, _ target: VerifiedEnd,
    _ body: (Comparison, inout VerificationReport) async throws -> Void
  ) async throws -> VerificationReport {
    let meter = VerificationMeter(request.onProgress)
    let ends =
      if let studied { studied } else {
        try await ComparedEnds.read(
          source, target, digests: options.digests, looksUpKeys: extent == .changed)
      }
    var report = VerificationReport(
      extent: extent,
      digest: extent == .counts ? "none: rows are only counted" : ends.agreement.digest.words,
      startedAt: try await Self.now(target.first), sourceVersion: source.version,
      targetVersion: target.version)
    report.jobs = options.jobs
    report.maxBytesPerSecond = options.maxBytesPerSecond
    report.coversObjects = options.comparesObjects
    report.notes += ends.notes
    try await body(Comparison(request, source, target, ends, meter), &report)
    report.tables.sort { $0.name < $1.name }
    report.seconds = meter.seconds
    meter.finish()
    return report
  }

  /// Keeps both ends under snapshots while `body` runs. After a failure the sessions can only be closed.
  private func begun<Value>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (_ source: VerifiedEnd, _ target: VerifiedEnd) async throws -> Value
  ) async throws -> Value {
    async let here = source.begun()
    async let there = target.begun()
    let (source, target) = try await (here, there)
    let value = try await body(source, target)
    try await rest()
    return value
  }

  private func rest() async throws {
    async let here: Void = source.rest()
    async let there: Void = target.rest()
    _ = try await (here, there)
  }

  private static func now(_ target: Connection) async throws -> String {
    let rows = try await target.query(
      """
      SELECT pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC',
        'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS now
      """, doing: "asking for the target's time", within: .seconds(30))
    return try rows.first?.text("now") ?? ""
  }
}
