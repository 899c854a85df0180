import Testing

@testable import LibPQ
@testable import MigrationEngine

@Suite struct VerificationForecastTests {
  private static let megabyte: Int64 = 1 << 20

  /// Ten tables, 200 MB on either end.
  private static let relations = (0..<10).map { number in
    var relation = Relation.fixture("t\(number)", [("id", 23)])
    relation.bytes = 20 * megabyte
    relation.heapBlocks = 10 * megabyte / 8192
    return relation
  }

  private func forecast(
    _ last: VerificationReport? = nil, jobs: Int = 2, largeObjectBytes: Int64 = 0
  ) -> VerificationForecast {
    VerificationForecast(
      relations: Self.relations, jobs: jobs, largeObjectBytes: largeObjectBytes, last: last)
  }

  /// 800 MB in four seconds, and pg_dump took longer.
  private var last: VerificationReport {
    var last = VerificationReport(
      extent: .full, digest: "", startedAt: "", sourceVersion: "", targetVersion: "")
    var table = VerificationReport.Table(
      name: RelationName(schema: "public", name: "t"), verdict: .equal, method: .binary)
    table.bytes = 800 * Self.megabyte
    last.tables = [table]
    last.seconds = 40
    last.readingSeconds = 4
    last.jobs = 2
    return last
  }

  @Test func `all rows are predicted by the last comparison's pace, or a slow disk's`() {
    #expect(forecast().full > 10)
    #expect(forecast(last).full > 2 && forecast(last).full < 3)
  }

  @Test func `where nothing says what was touched, as much is compared as there is time for`() {
    let forecast = forecast(last)
    #expect(forecast.substitute(within: 10) == .full)
    #expect(forecast.substitute(within: forecast.counts + 0.1) == .counts)
    #expect(forecast.substitute(within: 0.2) == nil)
    #expect(forecast.substitute(within: -1) == nil)
  }

  @Test func `a comparison that was held back, was partial or found differences shows no pace`() {
    for spoil in [
      { $0.maxBytesPerSecond = 1 << 20 }, { $0.extent = .counts }, { $0.readingSeconds = nil },
      { $0.jobs = nil }, { $0.tables[0].verdict = .different }, { $0.tables[0].bytes = 1000 },
    ] as [(inout VerificationReport) -> Void] {
      var spoilt = last
      spoil(&spoilt)
      #expect(spoilt.bytesPerSecond(jobs: 2) == nil)
      #expect(forecast(spoilt).full == forecast().full)
    }
  }

  @Test func `fewer sessions take longer, and more are not trusted to be faster`() {
    #expect(forecast(last, jobs: 1).full > 4)
    #expect(forecast(last, jobs: 8).full >= 2)
  }

  @Test func `large objects count, by what they were found to hold`() {
    let without = forecast(last).full
    #expect(abs(forecast(last, largeObjectBytes: 200 * Self.megabyte).full - without - 2) < 0.01)
    var found = last
    found.largeObjectBytes = 800 * Self.megabyte
    // Twice as much was read in the same time.
    #expect(forecast(found, largeObjectBytes: 1).full > 3)
    #expect(forecast(found).full < 2, "there are none any more")
  }

  @Test func `counting reads the heaps alone, and keys are looked up one by one`() {
    #expect(forecast(last).counts < forecast(last).full / 2)
    #expect(forecast(last).changed([:]) == 0.02, "sessions are open")
    let name = RelationName(schema: "public", name: "t3")
    #expect(forecast(last).changed([name: .all]) > 0.5)
    var keys = ChangedKeys(columns: [.init(name: "id", typeOID: 23)], format: .text)
    for _ in 0..<10_000 { withUnsafeBytes(of: UInt8(ascii: "1")) { keys.append($0) } }
    #expect(abs(forecast(last).changed([name: .keys([keys])]) - 0.52) < 0.01)
  }
}
