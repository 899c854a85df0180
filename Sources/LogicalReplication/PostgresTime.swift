/// A moment as PostgreSQL sends it: microseconds since 2000-01-01 00:00:00 UTC, without leap seconds.
///
/// Conversions never trap: what `Int64` cannot hold gives its nearest bound, which is also how PostgreSQL
/// writes `infinity` and `-infinity`.
package struct PostgresTime: Hashable, Comparable, Sendable {
  package let microseconds: Int64

  /// Microseconds from the Unix epoch to PostgreSQL's: 10,957 days.
  package static let epochInUnixMicroseconds: Int64 = 946_684_800_000_000

  package init(microseconds: Int64) {
    self.microseconds = microseconds
  }

  package init(unixMicroseconds: Int64) {
    microseconds = Self.difference(unixMicroseconds, Self.epochInUnixMicroseconds)
  }

  package var unixMicroseconds: Int64 {
    Self.difference(microseconds, -Self.epochInUnixMicroseconds)
  }

  /// Microseconds from `earlier` to this moment; negative if `earlier` is in fact later.
  package func microseconds(since earlier: PostgresTime) -> Int64 {
    Self.difference(microseconds, earlier.microseconds)
  }

  package static func < (left: PostgresTime, right: PostgresTime) -> Bool {
    left.microseconds < right.microseconds
  }

  private static func difference(_ left: Int64, _ right: Int64) -> Int64 {
    let (value, overflow) = left.subtractingReportingOverflow(right)
    guard overflow else { return value }
    return right > 0 ? .min : .max
  }
}
