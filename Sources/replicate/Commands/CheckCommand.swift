import ArgumentParser
import MigrationEngine

struct CheckCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Report what stands in the way of a migration, and how to fix it; exit 3 if anything does.",
    discussion: "Changes nothing on either side.")

  @OptionGroup var ends: EndOptions
  @OptionGroup var migration: MigrationArguments
  @Flag(help: "Print one JSON object.") var json = false
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let options = try migration.options(ends: ends, in: surroundings.environment)
    let logger = log.logger(log.writer(in: surroundings))
    let report = try await surroundings.engine.check(options, logger)
    surroundings.output.line(json ? FindingsPrinter.json(report) : FindingsPrinter.text(report))
    return report.isBlocked ? .blocked : .done
  }
}
