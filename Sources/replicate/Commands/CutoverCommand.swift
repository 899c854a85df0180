import ArgumentParser
import LibPQ
import Logging
import MigrationEngine

struct CutoverCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "cutover",
    abstract: "Ask the running engine to cut over, and follow it; exit 5 when it was aborted.",
    discussion: """
      Writes on the source pause from the fence on; reads continue. Whatever fails before the seal is \
      undone, and the source is writable again. A rehearsal (--dry-run) always ends so.
      """)

  @OptionGroup var ends: EndOptions

  @OptionGroup var limits: CutoverLimits
  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let target = try ends.requiredTarget(in: surroundings.environment)
    let verb = limits.isRehearsal ? "Rehearses the cutover" : "Cuts over"
    let consequence = limits.isRehearsal ? " for a moment." : ", and once it is complete it stays closed."
    try confirmation.require(
      """
      \(verb) to \(Confirmation.name(of: target)): writes on the source pause\(consequence)
      """,
      doing: "requesting the cutover", in: surroundings)
    return try await CutoverDialog(ends: ends, limits: limits, log: log).run(.forward, in: surroundings)
  }
}
