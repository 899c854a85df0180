import ArgumentParser
import LibPQ
import Logging
import MigrationEngine

struct RollbackCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "rollback",
    abstract: "Ask the running engine to move the writes back to the source, and follow it.",
    discussion: """
      After a cutover, while the engine replicates the target's writes back: the same cutover the other way, \
      with its own pause and nothing lost. Whatever fails before its seal is undone, and the target \
      is writable again (exit 5). A rehearsal (--dry-run) always ends so.
      """)

  @OptionGroup var ends: EndOptions
  @OptionGroup var limits: CutoverLimits
  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let target = try ends.requiredTarget(in: surroundings.environment)
    let verb = limits.isRehearsal ? "Rehearses moving" : "Moves"
    let consequence = limits.isRehearsal ? " for a moment." : ", and once it is complete it stays closed."
    try confirmation.require(
      """
      \(verb) the writes from \(Confirmation.name(of: target)) back to the source: writes on the target \
      pause\(consequence)
      """,
      doing: "requesting the rollback", in: surroundings)
    return try await CutoverDialog(ends: ends, limits: limits, log: log).run(.back, in: surroundings)
  }
}
