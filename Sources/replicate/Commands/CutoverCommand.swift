import ArgumentParser
import LibPQ
import Logging
import MigrationEngine

struct CutoverCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "cutover",
    abstract: "Ask the running engine to cut over, and follow it; exit 5 when it was aborted.",
    discussion: """
      Writes on the source pause from the fence on; reads go on. Whatever fails before the seal is taken \
      back, and the source is writable again. A rehearsal (--dry-run) always ends so.
      """)

  @OptionGroup var ends: EndOptions

  @Option(
    name: .customLong("max-pause"),
    help: ArgumentHelp(
      "Do not begin when the write pause would be longer. (default: 10s)", valueName: "duration"),
    transform: DurationParser.seconds)
  var maxPause: Double = 10

  @Option(
    help: ArgumentHelp("Abort when fence and seal lie further apart. (default: 60s)", valueName: "duration"),
    transform: DurationParser.seconds)
  var timeout: Double = 60

  @Flag(
    name: .customLong("dry-run"),
    help: """
      Do all of it for real up to the seal, then take the fence down: writes pause, and the report tells for \
      how long.
      """)
  var isRehearsal = false

  @Flag(
    name: .customLong("terminate-blockers"),
    help: "End the sessions whose transactions hold the cutover up, and no others.")
  var terminatesBlockers = false

  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let source = try ends.optionalSource(in: surroundings.environment)
    let target = try ends.requiredTarget(in: surroundings.environment)
    try confirmation.require(
      """
      \(isRehearsal ? "Rehearses the cutover" : "Cuts over") to \(Confirmation.name(of: target)): writes on \
      the source pause\(isRehearsal ? " for a moment." : ", and once it is complete it stays closed.")
      """,
      doing: "requesting the cutover", in: surroundings)
    let writer = log.writer(in: surroundings)
    let logger = log.logger(writer)
    let follower = CutoverFollower(writer: writer)
    let request = CutoverRequest(
      maxPauseSeconds: maxPause, timeoutSeconds: timeout, requestedBy: surroundings.user,
      isRehearsal: isRehearsal, terminatesBlockers: terminatesBlockers)
    do {
      let cutover = try await surroundings.interruption.leaving(
        onLeave: {
          follower.finish()
          writer.write(
            "no longer following; the engine goes on with the cutover, see 'replicate status'", level: .notice
          )
        },
        { try await surroundings.engine.cutover(source, target, logger, request) { follower.show($0) } })
      follower.finish()
      show(cutover, follower, surroundings)
      return ExitStatus(cutover)
    } catch {
      follower.finish()
      // How far it came tells why it was aborted; the error itself is told once, on stderr.
      if ExitStatus(error) == .cutoverAborted, let cutover = follower.latest?.cutover,
        cutover.result == .aborted
      {
        show(cutover, follower, surroundings)
      }
      throw error
    }
  }

  private func show(_ cutover: Status.Cutover, _ follower: CutoverFollower, _ surroundings: Surroundings) {
    surroundings.output.line(
      CutoverPrinter.text(cutover, encryption: follower.latest?.target.encryption))
  }
}
