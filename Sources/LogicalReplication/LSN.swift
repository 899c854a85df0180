/// A position in the write-ahead log, counted in bytes since the cluster was created.
///
/// The text form is that of PostgreSQL's `pg_lsn`: two upper-case hexadecimal halves without leading zeros,
/// `16/B374D848` (manual section "pg_lsn Type"). JSON and other encodings carry the text form as well.
package struct LSN: RawRepresentable, Hashable, Sendable {
  package let rawValue: UInt64

  package init(rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// PostgreSQL's InvalidXLogRecPtr: no valid position, and below every other one.
  package static let zero = LSN(rawValue: 0)

  /// Bytes of WAL from `other` to this position; negative if this position lies before `other`. Distances
  /// beyond `Int64` give its nearest bound.
  package func distance(from other: LSN) -> Int64 {
    if rawValue >= other.rawValue {
      return Int64(clamping: rawValue - other.rawValue)
    }
    let behind = other.rawValue - rawValue
    return behind > UInt64(Int64.max) ? Int64.min : -Int64(behind)
  }
}

extension LSN: Comparable {
  package static func < (left: LSN, right: LSN) -> Bool {
    left.rawValue < right.rawValue
  }
}

extension LSN: LosslessStringConvertible {
  package var description: String {
    let high = String(rawValue >> 32, radix: 16, uppercase: true)
    let low = String(rawValue & 0xFFFF_FFFF, radix: 16, uppercase: true)
    return "\(high)/\(low)"
  }

  /// Reads the text form; nil unless it is one to eight hexadecimal digits, a slash, and as many again.
  package init?(_ description: String) {
    let halves = description.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard halves.count == 2, let high = Self.half(halves[0]), let low = Self.half(halves[1]) else {
      return nil
    }
    self.init(rawValue: UInt64(high) << 32 | UInt64(low))
  }

  /// `UInt32(_:radix:)` would also take a sign, which `pg_lsn` does not.
  private static func half(_ digits: Substring.UTF8View) -> UInt32? {
    guard (1...8).contains(digits.count) else { return nil }
    var value: UInt32 = 0
    for digit in digits {
      guard let nibble = hexValue(digit) else { return nil }
      value = value << 4 | nibble
    }
    return value
  }

  private static func hexValue(_ digit: UInt8) -> UInt32? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(digit - UInt8(ascii: "0"))
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(digit - UInt8(ascii: "A")) + 10
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(digit - UInt8(ascii: "a")) + 10
    default: nil
    }
  }
}

extension LSN: Codable {
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let lsn = LSN(try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "not an LSN in the form 16/B374D848")
    }
    self = lsn
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
