import ArgumentParser
import LibPQ
import MigrationEngine

struct AbortCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "abort",
    abstract: "Give the migration up and leave no trace of it: slot, publication, guard, triggers, schemas.",
    discussion: "Exit 1 if something had to be left, with the commands that remove it.")

  @OptionGroup var ends: EndOptions

  @Flag(
    name: .customLong("drop-target-data"),
    help: "Drop the migrated tables on the target as well; otherwise they stay as they are.")
  var dropsTargetData = false

  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let source = try ends.requiredSource(in: surroundings.environment)
    let target = try ends.requiredTarget(in: surroundings.environment)
    let data =
      dropsTargetData ? "the migrated tables on the target are dropped" : "the target keeps its tables"
    try confirmation.require(
      """
      Gives up the migration to \(Confirmation.name(of: target)): \(data), and all that was done so far \
      is lost.
      """,
      doing: "aborting the migration", in: surroundings)
    let (removed, left) = try await surroundings.engine.abort(
      source, target, log.logger(log.writer(in: surroundings)), AbortOptions(dropsTargetData: dropsTargetData)
    )
    surroundings.output.line(AbortPrinter.text(removed: removed, left: left))
    return left.isEmpty ? .done : .failed
  }
}
