import ArgumentParser
import Logging

enum LogFormat: String, ExpressibleByArgument, CaseIterable, Sendable {
  case text, json

  /// The format that the arguments ask for, without parsing them: errors in them must use it, too.
  init(arguments: [String]) {
    let next = arguments.firstIndex(of: "--log-format").map { arguments.dropFirst($0 + 1).first }
    self = next == "json" || arguments.contains("--log-format=json") ? .json : .text
  }
}

enum LogLevel: String, ExpressibleByArgument, CaseIterable, Sendable {
  case trace, debug, info, notice, warning, error, critical

  var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .info }
}

struct LogOptions: ParsableArguments {
  @Option(name: .customLong("log-format"), help: "How logs, progress and errors are written to stderr.")
  var format = LogFormat.text

  @Option(name: .customLong("log-level"), help: "The least severity that is logged.")
  var level = LogLevel.info

  func logger(_ writer: LogWriter) -> Logger {
    Logger(label: "replicate") { _ in ConsoleLogHandler(writer: writer, logLevel: level.level) }
  }

  /// Writes to stderr; redraws in place there only for people.
  func writer(in surroundings: Surroundings) -> LogWriter {
    let terminal = format == .json ? nil : surroundings.errorTerminal
    let console = Console(lines: surroundings.errors, region: terminal.map { (surroundings.errors, $0) })
    return LogWriter(console: console, format: format, now: surroundings.now)
  }
}
