import ArgumentParser
import MigrationEngine

extension CutoverVerification: ExpressibleByArgument {}

/// Options of cutover and rollback.
struct CutoverLimits: ParsableArguments {
  @Option(
    name: .customLong("max-pause"),
    help: ArgumentHelp(
      "Do not begin when the write pause would be longer, and undo what takes longer. (default: 10s)",
      valueName: "duration"),
    transform: DurationParser.seconds)
  var maxPause: Double?

  @Option(
    help: ArgumentHelp(
      "Abort when the seal comes later than this after the fence. (default: 60s)",
      valueName: "duration"),
    transform: DurationParser.seconds)
  var timeout: Double = 60

  @Option(
    help: ArgumentHelp(
      "What is compared on both ends before the seal: all rows, those changed since the last 'replicate "
        + "verify' (or all, where there was none and the pause allows it), how many there are, or nothing. A "
        + "difference aborts.",
      valueName: "full|changed|counts|none"))
  var verify = CutoverVerification.changed

  @Option(
    name: .customLong("accept-difference"), parsing: .singleValue,
    help: ArgumentHelp(
      "Begin although the schemas of both ends differ in this, by its reported name: 'index "
        + "public.t_v_idx'; may be given again.", valueName: "name"))
  var acceptedDifferences: [String] = []

  @Flag(
    name: .customLong("dry-run"),
    help: """
      Do all of it for real up to the seal, then remove the fence: writes pause, and the report says for \
      how long.
      """)
  var isRehearsal = false

  @Flag(
    name: .customLong("terminate-blockers"),
    help: "End the sessions whose transactions hold up the cutover, and no others.")
  var terminatesBlockers = false

  func request(_ direction: Direction, by user: String) -> CutoverRequest {
    var request = CutoverRequest(direction, requestedBy: user)
    if let maxPause {
      request.maxPauseSeconds = maxPause
      request.unaskedSeconds = nil
    }
    request.timeoutSeconds = timeout
    request.isRehearsal = isRehearsal
    request.terminatesBlockers = terminatesBlockers
    request.verification = verify
    request.acceptedDifferences = acceptedDifferences
    return request
  }
}
