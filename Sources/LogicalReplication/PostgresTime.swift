/// A moment as PostgreSQL sends it: microseconds since 2000-01-01 00:00:00 UTC, without leap seconds.
///
/// Conversions never trap: what `Int64` cannot hold gives its nearest bound, which is also how PostgreSQL
/// writes `infinity` and `-infinity`.
package struct PostgresTime: Hashable, Comparable, Sendable {
  /// Since 2000-01-01 00:00:00 UTC; negative before.
  package let microseconds: Int64

  /// Microseconds from the Unix epoch to PostgreSQL's: 10,957 days.
  static let epochInUnixMicroseconds: Int64 = 946_684_800_000_000

  /// - Parameter microseconds: since 2000-01-01 00:00:00 UTC.
  package init(microseconds: Int64) {
    self.microseconds = microseconds
  }

  /// - Parameter unixMicroseconds: since 1970-01-01 00:00:00 UTC.
  package init(unixMicroseconds: Int64) {
    microseconds = Self.difference(unixMicroseconds, Self.epochInUnixMicroseconds)
  }

  /// Since 1970-01-01 00:00:00 UTC.
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
