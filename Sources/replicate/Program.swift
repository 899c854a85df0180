import ArgumentParser
import Foundation
import LibPQ

/// The command line: `Commands/` holds one file per command, `Options/` what several of them take,
/// `Printers/` turns the engine's values into text, `Terminal/` knows file descriptors and screens.
struct Replicate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replicate",
    abstract: "Moves a live PostgreSQL database into an encrypted one.",
    discussion: """
      Ends are given by --source and --target, or by REPLICATE_SOURCE and REPLICATE_TARGET: any libpq \
      connection string. Put passwords into a passfile or PGPASSWORD rather than an argument.

      Exit codes: 0 done, 1 failed, 3 blocked by preflight, 4 verification found differences, 5 cutover \
      aborted and the source writable again, 6 another engine holds the migration, 64 usage.
      """,
    version: "0.1.0",
    subcommands: [
      CheckCommand.self, PrepareCommand.self, StartCommand.self, StatusCommand.self, CutoverCommand.self,
      VerifyCommand.self,
      ReportCommand.self, AbortCommand.self, RollbackCommand.self, FinishCommand.self,
      WatchPoolersCommand.self,
    ])
}

@main
enum Program {
  static func main() async {
    // The reader of the output may leave; a write then fails with EPIPE instead of killing the engine.
    signal(SIGPIPE, SIG_IGN)
    Heap.keepSmall()
    exit(await run(Array(CommandLine.arguments.dropFirst()), in: .process))
  }

  /// Parses and runs, prints an error once, and returns the exit code.
  static func run(_ arguments: [String], in surroundings: Surroundings) async -> Int32 {
    let printer = ErrorPrinter(
      output: surroundings.errors, format: LogFormat(arguments: arguments), now: surroundings.now)
    do {
      var command = try Replicate.parseAsRoot(arguments)
      guard let engineCommand = command as? any EngineCommand else {
        try command.run()
        return ExitStatus.done.rawValue
      }
      let status = try await engineCommand.run(in: surroundings)
      try surroundings.output.checkFailure()
      return status.rawValue
    } catch {
      let code = ExitStatus.code(of: error)
      guard code == ExitStatus.done.rawValue else {
        printer.show(error, code: code, arguments: arguments)
        return code
      }
      // Help and the version are results as well.
      surroundings.output.line(Replicate.message(for: error))
      return code
    }
  }
}

/// A command that does something: parsing is ArgumentParser's, everything it touches comes in as
/// `Surroundings`.
protocol EngineCommand: ParsableCommand, Sendable {
  func run(in surroundings: Surroundings) async throws -> ExitStatus
}
