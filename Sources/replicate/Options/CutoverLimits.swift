import ArgumentParser

/// What a cutover and a rollback take.
struct CutoverLimits: ParsableArguments {
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
}
