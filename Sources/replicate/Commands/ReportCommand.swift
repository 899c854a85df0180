import ArgumentParser
import MigrationEngine

struct ReportCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract:
      "Print the audit report: who, when, both ends, evidence of encryption, the cutovers and their proof.",
    discussion: "Reads what the target has stored of the migration, at any time, even when it is complete.")

  @OptionGroup var ends: EndOptions
  @Flag(help: "Print one JSON object.") var json = false
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let source = try ends.optionalSource(in: surroundings.environment)
    let target = try ends.requiredTarget(in: surroundings.environment)
    let logger = log.logger(log.writer(in: surroundings))
    let report = try await surroundings.engine.report(source, target, logger)
    surroundings.output.line(json ? JSONText.line(report) : ReportPrinter.text(report))
    return .done
  }
}
