/// Durations as people write them: `500ms`, `10s`, `1.5s`, `2m`.
package enum DurationText {
  /// A wait of more than an hour is a typing mistake.
  static let longest: Double = 3600

  /// What is wrong with a text, as advice.
  package struct Mistake: Error, Sendable, Equatable, CustomStringConvertible {
    package let description: String
  }

  /// - Returns: seconds, more than zero and at most `longest`.
  package static func seconds(_ text: String) throws(Mistake) -> Double {
    let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    guard !digits.isEmpty, let number = Double(digits) else {
      throw Mistake(description: "give a duration such as 500ms, 10s or 2m")
    }
    let unit: Double
    switch text.dropFirst(digits.count) {
    case "ms": unit = 0.001
    case "s": unit = 1
    case "m": unit = 60
    case "": throw Mistake(description: "give it a unit: ms, s or m")
    default: throw Mistake(description: "the units are ms, s and m")
    }
    let seconds = number * unit
    guard seconds > 0, seconds <= longest else {
      throw Mistake(description: "give more than zero and at most 60m")
    }
    return seconds
  }
}
