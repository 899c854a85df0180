import Testing

@testable import MigrationEngine

@Suite struct LargeObjectPieceTests {
  private static let megabyte: Int64 = 1 << 20

  private func plan(_ sizes: [UInt32: Int64], rate: Int64? = nil) -> [[String]] {
    LargeObjectPiece.plan(sizes, maxBytesPerSecond: rate).map { piece in
      #expect(piece.bytes == piece.parts.reduce(0) { $0 + Int64($1.range.count) })
      return piece.parts.map {
        "\($0.oid): \($0.range.lowerBound / Self.megabyte)-\($0.range.upperBound / Self.megabyte)"
      }
    }
  }

  @Test func `small ones go together, empty ones are not read`() {
    #expect(plan([1: Self.megabyte, 2: 0, 3: Self.megabyte]) == [["1: 0-1", "3: 0-1"]])
    #expect(plan([:]) == [])
    let many = Dictionary(uniqueKeysWithValues: (1...2500).map { (UInt32($0), Int64(10)) })
    #expect(plan(many).map(\.count) == [1000, 1000, 500])
  }

  @Test func `one that is large is cut where both ends cut it`() {
    #expect(
      plan([7: 70 * Self.megabyte, 8: Self.megabyte]) == [["7: 0-32"], ["7: 32-64"], ["7: 64-70", "8: 0-1"]])
  }

  @Test func `who is held to a pace takes small bites`() {
    #expect(plan([7: 5 * Self.megabyte], rate: 8 * Self.megabyte) == [["7: 0-2"], ["7: 2-4"], ["7: 4-5"]])
    #expect(plan([7: 3 * Self.megabyte], rate: 1).count == 3)
  }
}
