import ArgumentParser
import MigrationEngine
import UnixSignals

struct StatusCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show where the migration stands, from any machine.",
    discussion: "Reads the target; with --source it also asks the source for its slot and newest LSN.")

  @OptionGroup var ends: EndOptions
  @Flag(help: "Show it every second, until the migration is complete or aborted.") var watch = false
  @Flag(help: "Print one JSON object, with --watch one per line.") var json = false
  @OptionGroup var log: LogOptions

  private typealias Reader = @Sendable () async throws -> Status

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let source = try ends.optionalSource(in: surroundings.environment)
    let target = try ends.requiredTarget(in: surroundings.environment)
    let screen = watch && !json ? surroundings.outputTerminal.map { (surroundings.output, $0) } : nil
    let console = Console(lines: surroundings.errors, region: screen)
    let writer = LogWriter(console: console, format: log.format, now: surroundings.now)
    let logger = log.logger(writer)
    let read: Reader = { try await surroundings.engine.status(source, target, logger) }
    guard watch else {
      let status = try await read()
      surroundings.output.line(json ? StatusJSON.text(status) : StatusPrinter.text(status))
      return .done
    }
    defer { console.settle() }
    try await surroundings.interruption.cancelling(on: [.sigint]) {
      do { try await follow(read, console, surroundings) } catch  where Task.isCancelled {
        // Ctrl-C is how a watch ends, whatever the query it cancelled says about it.
      }
    }
    return .done
  }

  private func follow(
    _ read: Reader, _ console: Console, _ surroundings: Surroundings
  ) async throws {
    var pace = CopyPace()
    while !surroundings.output.isClosed {
      let status = try await read()
      if status.phase == .copy { pace.observe(status.copy.bytesDone, at: surroundings.uptime()) }
      if json {
        surroundings.output.line(StatusJSON.text(status))
      } else if let columns = console.columns {
        console.show(StatusPrinter.rows(status, columns: columns, pace: pace))
      } else {
        surroundings.output.line(ProgressText(status: status, pace: pace).line)
      }
      if [.complete, .aborted].contains(status.phase) { return }
      try await surroundings.pause()
    }
  }
}
