import LibPQ

extension Verification {
  /// Compares all rows of all tables, and what else the options ask for.
  /// - Throws: `PostgresError`, `MigrationError` or `CancellationError` when the comparison could not be
  ///   done. A difference is no error.
  package func run() async throws -> VerificationReport {
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

  /// How these large objects are on both ends at this moment.
  func largeObjects(_ oids: [UInt32]) async throws -> [UInt32: LargeObjectComparison.Pair] {
    try await withEnds { source, target in
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

  /// Compares these rows; a table that is not named has none to be compared.
  package func compare(rows: [RelationName: TouchedRows]) async throws -> VerificationReport {
    try await comparing(.changed) { comparison, report in
      let tables = comparison.tables(&report, only: Set(rows.keys))
      try await comparison.compare(tables, rows, &report)
    }
  }

  /// Opens the sessions, lets `body` compare, and closes them.
  private func comparing(
    _ extent: VerificationReport.Extent,
    _ body: (Comparison, inout VerificationReport) async throws -> Void
  ) async throws -> VerificationReport {
    let meter = VerificationMeter(onProgress)
    return try await withEnds { source, target in
      let comparison = try await Comparison(self, source, target, meter)
      var report = VerificationReport(
        extent: extent,
        digest: extent == .counts ? "none: rows are only counted" : comparison.agreement.digest.words,
        startedAt: try await Self.now(target.first), sourceVersion: source.version,
        targetVersion: target.version)
      report.jobs = options.jobs
      report.maxBytesPerSecond = options.maxBytesPerSecond
      report.coversObjects = options.comparesObjects
      report.notes += comparison.notes
      try await body(comparison, &report)
      report.tables.sort { $0.name < $1.name }
      report.seconds = meter.seconds
      meter.finish()
      return report
    }
  }

  private func withEnds<Value>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (_ source: VerifiedEnd, _ target: VerifiedEnd) async throws -> Value
  ) async throws -> Value {
    let ends = try await openEnds()
    func close() async {
      await ends.source.close()
      await ends.target.close()
    }
    return try await finally(close) { try await body(ends.source, ends.target) }
  }

  private func openEnds() async throws -> (source: VerifiedEnd, target: VerifiedEnd) {
    async let source = VerifiedEnd.open(self.source, .source, jobs: options.jobs)
    async let target = VerifiedEnd.open(self.target, .target, jobs: options.jobs)
    let there: VerifiedEnd
    do {
      there = try await target
    } catch {
      if let here = try? await source { await here.close() }
      throw error
    }
    do {
      return (try await source, there)
    } catch {
      await there.close()
      throw error
    }
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
