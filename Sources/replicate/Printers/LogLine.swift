import Foundation
import Logging

/// One line on stderr: for people, or one JSON object.
enum LogLine {
  static func text(_ message: String, level: Logger.Level, metadata: [String: String], at time: Date)
    -> String
  {
    let words = metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\(quoted($0.value))" }.joined()
    return "\(stamp(time)) \(Fitting.padded(level.rawValue, to: 7)) \(Fitting.plainLines(message))\(words)"
  }

  static func json(_ message: String, level: Logger.Level, metadata: [String: String], at time: Date)
    -> String
  {
    JSONText.line(
      Entry(
        time: stamp(time), level: level.rawValue, message: message,
        metadata: metadata.isEmpty ? nil : metadata))
  }

  static func stamp(_ time: Date) -> String {
    time.ISO8601Format(.iso8601(timeZone: .gmt, includingFractionalSeconds: true)) + "Z"
  }

  private static func quoted(_ value: String) -> String {
    let isPlain = !value.isEmpty && !value.contains { $0.isWhitespace || $0 == "\"" || $0 == "=" }
    return Fitting.plain(isPlain ? value : "\"\(value.replacing("\"", with: "\\\""))\"")
  }

  private struct Entry: Encodable {
    var time: String
    var level: String
    var message: String
    var metadata: [String: String]?
  }
}
