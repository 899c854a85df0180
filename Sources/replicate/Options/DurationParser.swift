import ArgumentParser

/// Reads `500ms`, `10s`, `1.5s`, `2m` as seconds.
enum DurationParser {
  /// Longer waits than an hour are a slip of the finger.
  static let longest: Double = 3600

  static func seconds(_ text: String) throws -> Double {
    let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    guard !digits.isEmpty, let number = Double(digits) else {
      throw ValidationError("give a duration such as 500ms, 10s or 2m")
    }
    let unit: Double
    switch text.dropFirst(digits.count) {
    case "ms": unit = 0.001
    case "s": unit = 1
    case "m": unit = 60
    case "": throw ValidationError("give it a unit: ms, s or m")
    default: throw ValidationError("the units are ms, s and m")
    }
    let seconds = number * unit
    guard seconds > 0, seconds <= longest else {
      throw ValidationError("give more than nothing and at most 60m")
    }
    return seconds
  }
}
