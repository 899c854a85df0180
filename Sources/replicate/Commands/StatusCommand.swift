import ArgumentParser
import MigrationEngine

struct StatusCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show where the migration stands, from any machine.",
    discussion: "Reads the target; with --source it also asks the source for its slot and newest LSN.")

  @OptionGroup var ends: EndOptions
  @Flag(help: "Show it each second, until the migration is complete or aborted.") var watch = false
  @Flag(help: "Print one JSON object, with --watch one a line.") var json = false
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let source = try ends.optionalSource(in: surroundings.environment)
    let target = try ends.requiredTarget(in: surroundings.environment)
    let screen = watch && !json ? surroundings.outputTerminal.map { (surroundings.output, $0) } : nil
    let console = Console(lines: surroundings.errors, region: screen)
    let writer = LogWriter(console: console, format: log.format, now: surroundings.now)
    let observer = MigrationObserver(source: source, target: target, logger: log.logger(writer))
    guard watch else {
      let status = try await observer.status()
      surroundings.output.line(json ? StatusJSON.text(status) : StatusPrinter.text(status))
      return .done
    }
    defer { console.settle() }
    // Ctrl-C is how a watch ends.
    try await Interruption.ending {
      try await follow(observer, console, surroundings)
    }
    return .done
  }

  private func follow(
    _ observer: MigrationObserver, _ console: Console, _ surroundings: Surroundings
  ) async throws {
    while !surroundings.output.isClosed {
      let status = try await observer.status()
      if json {
        surroundings.output.line(StatusJSON.text(status))
      } else if let columns = console.columns {
        console.show(StatusPrinter.rows(status, columns: columns))
      } else {
        surroundings.output.line(ProgressText(status: status, pace: CopyPace()).line)
      }
      if [.complete, .aborted].contains(status.phase) { return }
      try await Task.sleep(for: .seconds(1))
    }
  }
}
