/// Numbers as people read them.
enum Quantity {
  private static let units = ["kB", "MB", "GB", "TB", "PB"]

  /// In steps of 1024, as PostgreSQL counts: `812 bytes`, `1.2 MB`, `612 MB`.
  static func bytes(_ count: Int64) -> String {
    guard count.magnitude >= 1024 else { return count == 1 ? "1 byte" : "\(count) bytes" }
    var value = Double(count) / 1024
    var unit = 0
    // What rounds up to 1024 belongs to the next unit.
    while abs(value) >= 1023.5, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return abs(value) < 9.95 ? "\(tenths(value)) \(units[unit])" : "\(whole(value)) \(units[unit])"
  }

  static func bytesPerSecond(_ rate: Double) -> String { bytes(whole(rate)) + "/s" }

  /// `0.4 ms`, `83 ms`, `8.3 s`, `42 s`, `1m 20s`, `2h 05m`, `3d 04h`.
  static func seconds(_ seconds: Double) -> String {
    guard seconds.isFinite else { return "unknown" }
    if seconds < 0 { return "-" + Self.seconds(-seconds) }
    if seconds == 0 { return "0 ms" }
    if seconds < 0.00095 { return "\(tenths(max(0.0001, seconds) * 1000)) ms" }
    if seconds < 0.9995 { return "\(whole(seconds * 1000)) ms" }
    if seconds < 9.95 { return "\(tenths(seconds)) s" }
    let all = whole(seconds)
    if all < 60 { return "\(all) s" }
    if all < 3600 { return "\(all / 60)m \(twoDigits(all % 60))s" }
    if all < 86400 { return "\(all / 3600)h \(twoDigits(all / 60 % 60))m" }
    return "\(all / 86400)d \(twoDigits(all / 3600 % 24))h"
  }

  /// `8,123,456`.
  static func count(_ number: Int64) -> String {
    var groups = ""
    for (index, digit) in String(number.magnitude).reversed().enumerated() {
      if index > 0, index % 3 == 0 { groups.append(",") }
      groups.append(digit)
    }
    return (number < 0 ? "-" : "") + String(groups.reversed())
  }

  static func count(_ number: Int64, _ one: String, _ many: String) -> String {
    "\(count(number)) \(number == 1 ? one : many)"
  }

  /// Whole percents, never 100 before the end.
  static func percent(_ fraction: Double) -> String {
    "\(whole((min(1, max(0, fraction)) * 100).rounded(.down)))%"
  }

  private static func tenths(_ value: Double) -> String {
    let tenths = whole(value * 10)
    return "\(tenths < 0 ? "-" : "")\((tenths / 10).magnitude).\((tenths % 10).magnitude)"
  }

  private static func twoDigits(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }

  /// Rounded, and limited to the range of an integer.
  private static func whole(_ value: Double) -> Int64 {
    if value.isNaN { return 0 }
    return Int64(min(9e18, max(-9e18, value.rounded())))
  }
}
