import Foundation
import Logging
import MigrationEngine

/// Lines on stderr in the requested format, above whatever the console draws.
struct LogWriter: Sendable {
  let console: Console
  let format: LogFormat
  let now: @Sendable () -> Date

  func write(_ message: String, level: Logger.Level = .info, metadata: [String: String] = [:]) {
    let line =
      switch format {
      case .text: LogLine.text(message, level: level, metadata: metadata, at: now())
      case .json: LogLine.json(message, level: level, metadata: metadata, at: now())
      }
    console.line(line)
  }

  /// A value as a line for programs.
  func write(_ message: String, status: Status) {
    console.line(JSONText.line(Entry(time: LogLine.stamp(now()), message: message, status: status)))
  }

  private struct Entry: Encodable {
    var time: String
    var level = Logger.Level.info.rawValue
    var message: String
    var status: Status
  }
}
