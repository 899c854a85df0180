import Foundation
import Subprocess

/// How a command ended, with all it wrote.
package struct Finished: Sendable {
  /// Its exit code; 128 + n when it was ended by signal n, as a shell would say.
  package let exitCode: Int32
  /// All of stdout.
  package let output: String
  /// All of stderr.
  package let errors: String
  /// From its start to its end.
  package let duration: Duration

  /// The time limit ended it.
  package let timedOut: Bool
}

extension TerminationStatus {
  var shellExitCode: Int32 {
    switch self {
    case .exited(let code): code
    case .signaled(let signal): 128 + signal
    }
  }
}

extension Environment {
  static func inherited(with variables: [String: String]) -> Environment {
    var updates: [Environment.Key: String?] = [:]
    for (name, value) in variables {
      updates[Environment.Key(stringLiteral: name)] = value
    }
    return .inherit.updating(updates)
  }
}

/// Programs that are run to their end.
package enum Command {
  /// Runs a command to its end and returns how it ended, whatever the exit code.
  ///
  /// The limit is kept by timeout(1), which also ends the command's own children, and does so even when
  /// this process is gone. Whole seconds, one at least.
  package static func run(
    _ arguments: [String], environment: [String: String] = [:], limit: Duration = .seconds(60)
  ) async throws -> Finished {
    let clock = ContinuousClock()
    // timeout(1) takes 0 for no limit at all.
    let seconds = max(1, limit.components.seconds)
    let started = clock.now
    let result = try await Subprocess.run(
      .name("timeout"), arguments: Arguments(["--signal=KILL", "\(seconds)"] + arguments),
      environment: .inherited(with: environment),
      output: .string(limit: 64 << 20), error: .string(limit: 64 << 20))
    let duration = clock.now - started
    let exitCode = result.terminationStatus.shellExitCode
    return Finished(
      exitCode: exitCode, output: result.standardOutput, errors: result.standardError, duration: duration,
      timedOut: exitCode == 128 + SIGKILL && duration >= .seconds(seconds))
  }

  /// As `run`, but throws an error with what the command wrote unless it exits with 0.
  @discardableResult
  package static func check(
    _ arguments: [String], environment: [String: String] = [:], limit: Duration = .seconds(60)
  ) async throws -> String {
    let result = try await run(arguments, environment: environment, limit: limit)
    guard result.exitCode == 0 else {
      let name = arguments.prefix(10).joined(separator: " ")
      throw HarnessError("\(name): exit code \(result.exitCode)\n\(result.output)\(result.errors)")
    }
    return result.output
  }
}
