import ArgumentParser
import Foundation
import LibPQ
import MigrationEngine

/// Prints the one error that ended a command.
struct ErrorPrinter: Sendable {
  let output: Output
  let format: LogFormat
  let now: @Sendable () -> Date

  func show(_ error: any Error, code: Int32, arguments: [String]) {
    let words = Self.words(for: error, arguments: arguments)
    switch format {
    case .text: output.line("replicate: " + (words.usage ?? Fitting.plainLines(words.text)))
    case .json:
      output.line(
        JSONText.line(
          Entry(
            time: LogLine.stamp(now()), level: "error", message: words.message, remedy: words.remedy,
            exitCode: code)))
    }
  }

  struct Words: Equatable {
    var message: String
    var remedy: String?
    /// The text for people, where it differs from `message`.
    var usage: String?

    var text: String {
      if let usage { return usage }
      return remedy.map { "\(message)\n  what to do: \($0)" } ?? message
    }
  }

  static func words(for error: any Error, arguments: [String]) -> Words {
    switch error {
    case let error as MigrationError:
      return Words(message: "\(error.action): \(error.reason)", remedy: error.remedy)
    case let error as PostgresError:
      var bare = error
      bare.hint = nil
      let remedy = error.hint ?? (error.isConnectionLoss ? Self.reconnect : nil)
      return Words(message: bare.description, remedy: remedy)
    case is CancellationError:
      return Words(message: "interrupted", remedy: "Run the same command again to continue.")
    default:
      let message = withoutSecrets(Replicate.message(for: error), arguments: arguments)
      guard Replicate.exitCode(for: error) == .validationFailure else { return Words(message: message) }
      var full = Replicate.fullMessage(for: error)
      if full.hasPrefix("Error: ") { full.removeFirst("Error: ".count) }
      return Words(message: message, usage: withoutSecrets(full, arguments: arguments))
    }
  }

  private static let reconnect =
    "Make sure that the server answers and admits this user, then run the same command again."

  /// The argument parser quotes what it does not understand, which may be a connection string.
  static func withoutSecrets(_ message: String, arguments: [String]) -> String {
    arguments.flatMap { argument -> [String] in
      let value = argument.split(separator: "=", maxSplits: 1).last.map(String.init)
      return argument.hasPrefix("-") ? [argument, value ?? ""] : [argument]
    }
    .filter { $0.lowercased().contains("password") || ($0.contains("@") && $0.contains("://")) }
    .reduce(message) { $0.replacing($1, with: "(connection string)") }
  }

  private struct Entry: Encodable {
    var time: String
    var level: String
    var message: String
    var remedy: String?
    var exitCode: Int32

    enum CodingKeys: String, CodingKey {
      case time, level, message, remedy
      case exitCode = "exit_code"
    }
  }
}
