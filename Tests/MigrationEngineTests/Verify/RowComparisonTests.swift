import Testing

@testable import MigrationEngine

struct RowComparisonTests {
  private func mark(_ identity: Int64, _ digest: Int64, _ place: String, count: Int64 = 1) -> RowMark {
    RowMark(identity: identity, digest: digest, count: count, place: place)
  }

  private func compare(_ source: [RowMark], _ target: [RowMark], limit: Int = 10) -> RowComparison {
    RowComparison(source: source, target: target, limit: limit)
  }

  @Test func `rows of one key with other values are different, others missing or extra`() {
    let found = compare(
      [mark(1, 10, "(0,1)"), mark(2, 20, "(0,2)"), mark(3, 30, "(0,3)")],
      [mark(1, 10, "(9,1)"), mark(2, 21, "(9,2)"), mark(4, 40, "(9,3)")])
    #expect(found.missing == 1 && found.extra == 1 && found.different == 1)
    #expect(
      found.named == [
        .init(kind: .different, place: "(0,2)"), .init(kind: .missing, place: "(0,3)"),
        .init(kind: .extra, place: "(9,3)"),
      ])
  }

  @Test func `duplicates count`() {
    let more = compare([mark(5, 5, "(0,1)", count: 2)], [mark(5, 5, "(0,1)", count: 3)])
    #expect(more.missing == 0 && more.extra == 1 && more.different == 0)
    let fewer = compare([mark(5, 5, "(0,1)", count: 5)], [mark(5, 5, "(0,1)", count: 3)])
    #expect(fewer.missing == 2 && fewer.extra == 0)
  }

  @Test func `rows that are equal in several pieces add up`() {
    let found = compare([mark(5, 5, "(0,1)"), mark(5, 5, "(9,1)")], [mark(5, 5, "(0,1)", count: 2)])
    #expect(found == compare([], []))
    let other = compare([mark(5, 5, "(0,1)", count: 3)], [mark(5, 5, "(0,1)"), mark(5, 5, "(9,1)")])
    #expect(other.missing == 1 && other.extra == 0)
  }

  @Test func `more rows of a key than the other end has are missing`() {
    let found = compare([mark(1, 10, "(0,1)"), mark(1, 11, "(0,2)")], [mark(1, 12, "(0,1)")])
    #expect(found.different == 1 && found.missing == 1 && found.extra == 0)
  }

  @Test func `only so many are named, and all are counted, those in front first`() {
    let source = (1...100).map { mark(Int64($0), 0, "(\(100 - $0),1)") }
    let found = compare(source, [], limit: 3)
    #expect(found.missing == 100)
    #expect(found.named.map(\.place) == ["(0,1)", "(1,1)", "(2,1)"])
  }

  @Test func `buckets that differ are chosen up to a number of rows, but at least one`() {
    var source = BucketSums()
    var target = BucketSums()
    for bucket in Int64(0)..<10 {
      source.add(bucket: bucket, rows: 50, digest: 7)
      target.add(bucket: bucket, rows: 50, digest: bucket % 2 == 0 ? 7 : 8)
    }
    #expect(BucketSums.differing(source, target, maxRows: 1000).chosen == [1, 3, 5, 7, 9])
    #expect(BucketSums.differing(source, target, maxRows: 1000).hasMore == false)
    #expect(BucketSums.differing(source, target, maxRows: 250).chosen == [1, 3])
    #expect(BucketSums.differing(source, target, maxRows: 250).hasMore)
    #expect(BucketSums.differing(source, target, maxRows: 1).chosen == [1])
    #expect(BucketSums.differing(source, BucketSums(), maxRows: 10_000).chosen.count == 10)
  }

  @Test func `buckets are a power of two, few for few rows and bounded for many`() {
    #expect(BucketSums.count(rows: 0, pieces: 1) == 1)
    #expect(BucketSums.count(rows: 64, pieces: 1) == 1)
    #expect(BucketSums.count(rows: 1_000_000, pieces: 2) == 16384)
    #expect(BucketSums.count(rows: .max, pieces: 1) == 65536)
    #expect(BucketSums.count(rows: .max, pieces: 1000) == 1024)
  }

  @Test(
    arguments: [
      (nil, 0), ("0", 0), ("18446744073709551616", 0), ("18446744073709551617", 1), ("-1", UInt64.max),
      ("-18446744073709551617", .max), ("9223372036854775807", 9_223_372_036_854_775_807),
    ] as [(String?, UInt64)])
  func `sums that are longer than 64 bits wrap around`(text: String?, value: UInt64) {
    #expect(UInt64(sum: text) == value)
  }
}
