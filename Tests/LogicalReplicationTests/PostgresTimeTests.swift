import LogicalReplication
import Testing

struct PostgresTimeTests {
  @Test func `converts both ways`() {
    #expect(PostgresTime(microseconds: 0).unixMicroseconds == 946_684_800_000_000)
    #expect(PostgresTime(unixMicroseconds: 0).microseconds == -946_684_800_000_000)
    let later = PostgresTime(unixMicroseconds: 1_700_000_000_123_456)
    #expect(later.unixMicroseconds == 1_700_000_000_123_456)
    #expect(later > PostgresTime(microseconds: 0))
  }

  @Test func `stays at infinity instead of overflowing`() {
    #expect(PostgresTime(microseconds: .max).unixMicroseconds == .max)
    #expect(PostgresTime(unixMicroseconds: .min).microseconds == .min)
  }

  @Test func `differences have a sign and saturate`() {
    let zero = PostgresTime(microseconds: 0)
    #expect(PostgresTime(microseconds: 5).microseconds(since: zero) == 5)
    #expect(zero.microseconds(since: PostgresTime(microseconds: 5)) == -5)
    let first = PostgresTime(microseconds: .min)
    let last = PostgresTime(microseconds: .max)
    #expect(last.microseconds(since: first) == .max)
    #expect(first.microseconds(since: last) == .min)
    #expect(zero.microseconds(since: first) == .max)
  }
}
