import Foundation

/// One object per line, keys sorted so that two outputs can be compared.
enum JSONText {
  static func line(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // JSON has no number for them; an infinite rate must not lose the whole object.
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    do {
      return plain(String(decoding: try encoder.encode(value), as: UTF8.self))
    } catch {
      // None of our values fails to encode; if one did, its reader would have to know.
      return #"{"level":"error","message":"a value could not be written as JSON"}"#
    }
  }

  /// The encoder keeps control characters beyond ASCII and those that reverse text, and a terminal obeys some
  /// of them. They can only occur in strings, where an escape means the same.
  private static func plain(_ json: String) -> String {
    guard json.unicodeScalars.contains(where: Fitting.isControl) else { return json }
    return json.unicodeScalars.map { scalar in
      guard Fitting.isControl(scalar) else { return String(scalar) }
      return String(scalar).utf16.map { unit in
        let digits = String(unit, radix: 16)
        return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      }.joined()
    }.joined()
  }
}
