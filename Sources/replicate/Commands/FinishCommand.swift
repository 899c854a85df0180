import ArgumentParser
import LibPQ
import MigrationEngine

struct FinishCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "finish",
    abstract: "End reverse replication after a cutover or rollback, clean both ends, and keep the report.",
    discussion: """
      The running engine ends. The old database stays sealed: nothing writes to it by mistake. Afterwards \
      no rollback is possible any more.
      """)

  @OptionGroup var ends: EndOptions

  @Flag(
    name: .customLong("open-old-end"),
    help: "Let the old database take writes again: after a cutover the source, after a rollback the target.")
  var opensOldEnd = false

  @Flag(
    name: .customLong("without-source"),
    help: "Do not contact the source, which is lost; refused while anything answers where --source says.")
  var isSourceGone = false

  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let target = try ends.requiredTarget(in: surroundings.environment)
    let named = try ends.optionalSource(in: surroundings.environment)
    let source = isSourceGone ? named ?? target : try ends.requiredSource(in: surroundings.environment)
    try confirmation.require(
      "Ends the migration to \(Confirmation.name(of: target)): after that there is no way back.",
      doing: "finishing the migration", in: surroundings)
    let removed = try await surroundings.engine.finish(
      source, target, log.logger(log.writer(in: surroundings)),
      FinishOptions(opensOldEnd: opensOldEnd, isSourceGone: isSourceGone, isSourceNamed: named != nil))
    surroundings.output.line(AbortPrinter.text(removed: removed, left: []))
    return .done
  }
}
