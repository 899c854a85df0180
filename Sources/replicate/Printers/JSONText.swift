import Foundation

/// One object a line, keys sorted so that two outputs can be compared.
enum JSONText {
  static func line(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // JSON has no number for them; a rate without an end must not cost the whole object.
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    do {
      return String(decoding: try encoder.encode(value), as: UTF8.self)
    } catch {
      // No value of ours refuses to be encoded; should one do, its reader has to see it.
      return #"{"level":"error","message":"a value could not be written as JSON"}"#
    }
  }
}
