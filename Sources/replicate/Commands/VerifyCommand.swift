import ArgumentParser
import Foundation
import LibPQ
import Logging
import MigrationEngine
import Synchronization
import UnixSignals

struct VerifyCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Compare both ends at one position of the stream while writes continue; exit 4 if they differ.",
    discussion: """
      The running engine compares every migrated table, and what the stream does not carry, from streaming \
      on and again after the cutover while there is a way back. The stream continues meanwhile. Rows that \
      differ are named by their keys, never by other values.

      SIGINT and SIGTERM end it at once, and nothing of it stays on either end.
      """)

  @OptionGroup var ends: EndOptions

  @Option(
    parsing: .singleValue,
    help: ArgumentHelp(
      "Compare only this table; may be given again, or several with commas. Names fold to lower case unless "
        + "quoted.", valueName: "schema.table"),
    transform: VerifyCommand.tables)
  var tables: [[RelationName]] = []

  @Option(
    help: ArgumentHelp("Sessions on each end that read, 1 to 64. (default: 2)", valueName: "N"),
    transform: MigrationArguments.jobs)
  var jobs = 2

  @Option(
    help: ArgumentHelp(
      "Read at most this many bytes a second, from both ends together: 500kB, 20MB.", valueName: "bytes/s"),
    transform: ByteRateParser.parse)
  var maxRate: Int64?

  @Flag(help: "Print one JSON object.") var json = false
  @OptionGroup var log: LogOptions

  static func tables(_ text: String) throws -> [RelationName] {
    try RelationNameParser.list(text)
  }

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    let target = try ends.requiredTarget(in: surroundings.environment)
    let writer = log.writer(in: surroundings)
    let logger = log.logger(writer)
    let follower = VerificationFollower(writer: writer, uptime: surroundings.uptime)
    let request = VerificationRequest(
      tables: tables.flatMap { $0 }, jobs: jobs, maxBytesPerSecond: maxRate, requestedBy: surroundings.user)
    let signalled = SignalNote()
    do {
      let report = try await surroundings.interruption.cancelling(
        on: [.sigterm, .sigint], onStop: { signalled.set($0) },
        { try await surroundings.engine.verify(target, logger, request) { follower.show($0) } })
      follower.finish()
      surroundings.output.line(json ? JSONText.line(report) : VerificationPrinter.text(report))
      if report.isVoid { writer.write("nothing was compared: the report says why", level: .error) }
      return ExitStatus(report)
    } catch {
      follower.finish()
      if let signal = signalled.signal {
        writer.write("cancelled; nothing of the comparison stays on either end", level: .notice)
        surroundings.interruption.end(StopSignals.code(of: signal))
      }
      throw error
    }
  }
}

/// Which signal asked a command to stop.
private final class SignalNote: Sendable {
  private let value = Mutex<UnixSignal?>(nil)

  func set(_ signal: UnixSignal) { value.withLock { $0 = signal } }
  var signal: UnixSignal? { value.withLock { $0 } }
}
