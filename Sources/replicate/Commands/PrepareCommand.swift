import ArgumentParser
import LibPQ
import Logging
import MigrationEngine
import UnixSignals

struct PrepareCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "prepare",
    abstract:
      "Enable logical decoding on the source, which needs a restart of its server; exit 3 if it may not be.",
    discussion: """
      Says what is missing and what the restart costs before anything is touched. Clients of the poolers in \
      --config wait meanwhile instead of being disconnected.
      """)

  @OptionGroup var ends: EndOptions

  @Option(
    name: .customLong("restart-command"),
    help: ArgumentHelp(
      "The shell command that restarts the source's server, such as 'systemctl restart postgresql@15-main'.",
      valueName: "command"))
  var restartCommand: String?

  @Flag(
    name: .customLong("aws"),
    help: "The source is an Aurora cluster or RDS instance, whatever its host is called.")
  var asksAWS = false

  @Flag(
    name: .customLong("shared-group"),
    help: "Change a parameter group although others use it as well.")
  var acceptsSharedGroup = false

  @Option(
    name: .customLong("config"),
    help: ArgumentHelp(
      "The file whose pgbouncer steps name the poolers. (default: replicate.yaml, if there is one)",
      valueName: "file"))
  var configPath: String?

  @Option(
    name: .customLong("max-pause"),
    help: ArgumentHelp(
      "How long poolers may wait for transactions to end, before the restart. (default: 10s)",
      valueName: "duration"),
    transform: DurationParser.seconds)
  var maxPause: Double = 10

  @Option(
    help: ArgumentHelp(
      "How long the restart may take until the server answers again. (default: 5m)", valueName: "duration"),
    transform: DurationParser.seconds)
  var timeout: Double = 300

  @OptionGroup var confirmation: Confirmation
  @OptionGroup var log: LogOptions

  private static let action = "preparing the source"

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let request = try request(in: surroundings.environment)
    let logger = log.logger(log.writer(in: surroundings))
    let plan = try await surroundings.engine.examinePreparation(request, logger)
    surroundings.output.line(PreparationPrinter.text(plan))
    if plan.missing.isEmpty { return .done }
    if plan.isBlocked { return .blocked }
    guard !plan.steps.isEmpty else {
      throw MigrationError(
        .usage, doing: Self.action, reason: "nothing says how its server is restarted",
        remedy: "Give --restart-command, such as 'sudo -n systemctl restart postgresql@15-main', or --aws.")
    }
    try confirmation.require(
      "Restarts the server of \(Confirmation.name(of: request.source, "the source")).", doing: Self.action,
      in: surroundings)
    let report = try await surroundings.interruption.cancelling(on: [.sigterm, .sigint]) {
      try await surroundings.engine.prepare(request, logger)
    }
    surroundings.output.line(PreparationPrinter.text(report))
    return .done
  }

  private func request(in environment: [String: String]) throws -> PreparationRequest {
    guard restartCommand == nil || !asksAWS else {
      throw MigrationError(
        .usage, doing: Self.action, reason: "--restart-command and --aws exclude each other",
        remedy: "Give one of them.")
    }
    var request = PreparationRequest(source: try ends.requiredSource(in: environment))
    request.restartCommand = restartCommand
    request.asksAWS = asksAWS
    request.acceptsSharedGroup = acceptsSharedGroup
    request.switchPlan = try SwitchPlanFile.read(configPath, environment: environment)
    request.maxPauseSeconds = maxPause
    request.timeoutSeconds = timeout
    request.poolerWatch = WatchPoolersCommand.invocation
    return request
  }
}
