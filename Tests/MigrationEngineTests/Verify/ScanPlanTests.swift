import Testing

@testable import MigrationEngine

struct ScanPlanTests {
  private let megabyte: Int64 = 1 << 20

  private func shape(bytes: Int64) -> TableShape {
    TableShape(
      oid: 1, name: RelationName(schema: "public", name: "t"), isMaterializedView: false, isPopulated: true,
      isUnlogged: false, bytes: bytes, heapBlocks: bytes / 8192, columns: [], key: [])
  }

  private func plan(_ bytes: [Int64], jobs: Int = 4, isCut: Bool = true, rate: Int64? = nil) -> [ScanPiece] {
    ScanPlan(
      bytes.enumerated().map { ($0, shape(bytes: $1)) }, jobs: jobs, isCut: isCut, maxBytesPerSecond: rate
    ).pieces
  }

  @Test func `pieces cover a table without gap or overlap, and their bytes are the table's`() {
    let pieces = plan([1000 * megabyte + 8192])
    #expect(pieces.count == 16)
    #expect(pieces.reduce(0) { $0 + $1.bytes } == 1000 * megabyte + 8192)
    #expect(pieces.first?.condition?.contains(">=") == false)
    #expect(pieces.last?.condition?.contains(" AND ") == false)
    for (one, next) in zip(pieces, pieces.dropFirst()) {
      let end = one.condition?.split(separator: "'").suffix(2).first
      let start = next.condition?.split(separator: "'").dropFirst().first
      #expect(end == start)
    }
  }

  @Test func `large tables come first, and small ones are read in one piece`() {
    #expect(plan([1, 500 * megabyte, 0]).map(\.table).last == 2)
    #expect(plan([1, 500 * megabyte, 0]).first?.table == 1)
    #expect(plan([0, 8192]).allSatisfy { $0.condition == nil })
  }

  @Test func `a server that would read all of it for each piece gets one`() {
    #expect(plan([1000 * megabyte], isCut: false).map(\.condition) == [nil])
  }

  @Test func `every session has something to do, also with a single table`() {
    #expect(plan([40 * megabyte], jobs: 4).count == 8)
  }

  @Test func `who is held to a pace takes small bites`() {
    #expect(plan([100 * megabyte], jobs: 1, rate: 10 * megabyte).count == 20)
    #expect(plan([100 * megabyte], jobs: 1, rate: 1).count == 100)
  }
}
