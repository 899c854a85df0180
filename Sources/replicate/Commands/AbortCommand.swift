import ArgumentParser
import LibPQ
import Logging
import MigrationEngine

struct AbortCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "abort",
    abstract: "Abort the migration and leave no trace of it: slot, publication, fence, triggers, schemas.",
    discussion: "Exit 1 if something could not be removed, with the commands that remove it.")

  @OptionGroup var ends: EndOptions

  @Flag(
    name: .customLong("drop-target-data"),
    help: "Drop the migrated tables on the target as well; otherwise they stay as they are.")
  var dropsTargetData = false

  @Flag(
    name: .customLong("without-target"),
    help: """
      The target is lost: clean only the source, and open it where a cutover has sealed it. What was \
      written to the target and not replicated back is lost. Refused while anything answers at --target.
      """)
  var isTargetLost = false

  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let source = try ends.requiredSource(in: surroundings.environment)
    let logger = log.logger(log.writer(in: surroundings))
    let (removed, left) =
      isTargetLost
      ? try await withoutTarget(source, logger, in: surroundings)
      : try await withTarget(source, logger, in: surroundings)
    surroundings.output.line(AbortPrinter.text(removed: removed, left: left))
    return left.isEmpty ? .done : .failed
  }

  private func withTarget(
    _ source: ConnectionString, _ logger: Logger, in surroundings: Surroundings
  ) async throws -> (removed: [String], left: [String]) {
    let target = try ends.requiredTarget(in: surroundings.environment)
    let data =
      dropsTargetData ? "the migrated tables on the target are dropped" : "the target keeps its tables"
    try confirmation.require(
      """
      Aborts the migration to \(Confirmation.name(of: target)): \(data), and everything done so far \
      is lost.
      """,
      doing: "aborting the migration", in: surroundings)
    return try await surroundings.engine.abort(
      source, target, logger, AbortOptions(dropsTargetData: dropsTargetData))
  }

  private func withoutTarget(
    _ source: ConnectionString, _ logger: Logger, in surroundings: Surroundings
  ) async throws -> (removed: [String], left: [String]) {
    guard !dropsTargetData else {
      throw MigrationError(
        .usage, doing: "aborting the migration",
        reason: "--drop-target-data and --without-target exclude each other", remedy: "Give one of them.")
    }
    let target = try ends.optionalTarget(in: surroundings.environment)
    let consequence = try await surroundings.engine.examineWithoutTarget(source, target, logger)
    try confirmation.require(consequence, doing: "aborting the migration", in: surroundings)
    surroundings.output.line(consequence)
    return try await surroundings.engine.abortWithoutTarget(source, target, logger)
  }
}
