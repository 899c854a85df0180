import ArgumentParser
import Logging
import MigrationEngine
import UnixSignals

extension MigrationOptions.Trigger: ExpressibleByArgument {}

struct StartCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "start",
    abstract: "Begin or resume the migration, and stream until the cutover is complete, then back.",
    discussion: """
      After the cutover it replicates the target's writes back to the source, so that there is a way back, \
      until 'replicate finish' or 'replicate rollback'; with --no-reverse it ends there.

      SIGTERM and SIGINT stop it at a commit with exit code 0; the same command continues from there, on any \
      machine. A second signal ends it at once, which does not lose anything either.
      """)

  @OptionGroup var ends: EndOptions
  @OptionGroup var migration: MigrationArguments

  @Option(
    help: ArgumentHelp(
      "Cut over when asked by 'replicate cutover' (manual), or once caught up (auto).",
      valueName: "manual|auto"))
  var cutover = MigrationOptions.Trigger.manual

  @Option(
    name: .customLong("accept-difference"), parsing: .singleValue,
    help: ArgumentHelp(
      "With --cutover auto: cut over although the schemas of both ends differ in this, by its reported "
        + "name; may be given again.", valueName: "name"))
  var acceptedDifferences: [String] = []

  @Option(
    name: .customLong("exec"), parsing: .singleValue,
    help: ArgumentHelp(
      "A shell command to run once the target is open, after the steps of --config; may be given again.",
      valueName: "command"))
  var execSteps: [String] = []

  @Flag(
    name: .customLong("without-source"),
    help: ArgumentHelp(
      "The source is lost for good: finish a cutover that had reached its seal with what the target has.",
      discussion: """
        Refused unless the source is silent: while anything accepts a connection where it was, with any \
        error, it may be taking writes. Needs --yes where there is no terminal to ask on.
        """))
  var isSourceLost = false

  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  func validate() throws {
    guard acceptedDifferences.isEmpty || cutover == .auto else {
      throw ValidationError(
        "--accept-difference goes with --cutover auto; else give it to 'replicate cutover'")
    }
  }

  func options(in environment: [String: String]) throws -> MigrationOptions {
    var options = try migration.options(ends: ends, in: environment)
    options.cutover = cutover
    options.acceptedDifferences = acceptedDifferences
    options.isSourceLost = isSourceLost
    options.switchPlan.steps += execSteps.map { SwitchStep(action: .exec($0)) }
    options.poolerWatch = WatchPoolersCommand.invocation
    return options
  }

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let writer = log.writer(in: surroundings)
    let progress = ProgressPrinter(writer: writer, uptime: surroundings.uptime)
    let options = try options(in: surroundings.environment)
    if isSourceLost {
      try confirmation.require(
        """
        Opens \(Confirmation.name(of: options.target)) although the source cannot say whether it was \
        sealed. You vouch that it is off, or out of reach for everybody and not only for this machine: what \
        it has taken since its fence expired, and takes should it come back, is lost.
        """,
        doing: "finishing the cutover without the source", in: surroundings)
    }
    let logger = log.logger(writer)
    defer { progress.finish() }
    let outcome = try await surroundings.interruption.cancelling(
      on: [.sigterm, .sigint],
      onStop: { signal in
        writer.write("\(signal): stopping at the next commit; once more ends at once", level: .notice)
      },
      onEnd: { writer.console.settle() },
      {
        do {
          return try await surroundings.engine.start(
            options, logger, { progress.show($0) }, { Self.report($0, to: writer) })
        } catch is CancellationError where Task.isCancelled {
          // Uncommitted changes are rolled back, so this is also a stop at a commit.
          return .stopped
        }
      })
    progress.finish()
    switch outcome {
    case .stopped:
      writer.write("stopped at a commit; run the same command again to continue", level: .notice)
    case .complete(let cutover):
      surroundings.output.line(
        CutoverPrinter.text(cutover, encryption: progress.latest?.target.encryption))
      return ExitStatus(cutover)
    }
    return .done
  }

  private static func report(_ report: PreflightReport, to writer: LogWriter) {
    switch writer.format {
    case .text: writer.console.line(FindingsPrinter.text(report))
    case .json:
      for finding in report.findings {
        writer.write(
          "finding", level: finding.severity == .note ? .info : .warning,
          metadata: [
            "severity": finding.severity.rawValue, "check": finding.check, "object": finding.object,
            "why": finding.why, "remedy": finding.remedy,
          ])
      }
    }
  }
}
