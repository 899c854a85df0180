import LibPQ

extension Verification {
  /// Compares all rows of all tables, and what else the options ask for.
  /// - Throws: `PostgresError`, `MigrationError` or `CancellationError` when the comparison could not be
  ///   done. A difference is no error.
  package func run() async throws -> VerificationReport {
    try await comparing(.full) { comparison, report in
      async let schema = comparison.schema()
      try await comparison.compareInFull(comparison.tables(&report), &report)
      if options.comparesObjects { report.objects += try await comparison.objects() }
      report.objects += try await schema
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
    let ends = try await openEnds()
    func close() async {
      await ends.source.close()
      await ends.target.close()
    }
    return try await finally(close) {
      let comparison = try await Comparison(self, ends.source, ends.target, meter)
      var report = VerificationReport(
        extent: extent,
        digest: extent == .counts ? "none: rows are only counted" : comparison.agreement.digest.words,
        startedAt: try await Self.now(ends.target.first), sourceVersion: ends.source.version,
        targetVersion: ends.target.version)
      report.notes += comparison.notes
      try await body(comparison, &report)
      report.tables.sort { $0.name < $1.name }
      report.seconds = meter.seconds
      meter.finish()
      return report
    }
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
