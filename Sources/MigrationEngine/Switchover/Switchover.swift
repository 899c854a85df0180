import Subprocess

/// The switch steps, run in order once the target takes writes: what leads the application to it.
package struct Switchover: Sendable {
  /// What the steps are told of an end, in their environment.
  package struct End: Sendable {
    package var host: String
    package var port: String
    package var database: String

    package init(host: String, port: String, database: String) {
      self.host = host
      self.port = port
      self.database = database
    }
  }

  private let commands: [String]
  private let source: End
  private let target: End
  private let timeLimit: Duration

  /// - Parameters:
  ///   - commands: each is run by `/bin/sh -c`. An engine that is killed between them runs them again.
  ///   - timeLimit: of each; after it the command and its children are killed.
  package init(exec commands: [String], source: End, target: End, timeLimit: Duration = .seconds(300)) {
    self.commands = commands
    self.source = source
    self.target = target
    self.timeLimit = timeLimit
  }

  /// Stops at the first step that fails: those behind it may rest on it.
  /// - Returns: what failed and what was not run for it; nil when all went well.
  package func run(
    fenceLSN: String?, _ onStep: @Sendable (_ step: String, Duration, _ detail: String) async -> Void
  ) async -> String? {
    for (index, command) in commands.enumerated() {
      let name = "exec \(index + 1)"
      let began = ContinuousClock.now
      let outcome = await BoundedCommand(
        shell: command, changing: environment(fenceLSN), timeLimit: timeLimit
      ).run()
      let (failure, said) = words(outcome)
      await onStep(name, .now - began, [failure, said].compactMap { $0 }.joined(separator: ": "))
      guard let failure else { continue }
      let rest = commands.count - index - 1
      return "switch step \(name) failed (\(failure)\(said.map { ": \($0)" } ?? ""))"
        + (rest == 0 ? "" : "; \(rest) steps behind it were not run")
    }
    return nil
  }

  private func environment(_ fenceLSN: String?) -> [Environment.Key: String?] {
    [
      "REPLICATE_PHASE": "switch", "REPLICATE_FENCE_LSN": fenceLSN,
      "REPLICATE_SOURCE_HOST": source.host, "REPLICATE_SOURCE_PORT": source.port,
      "REPLICATE_SOURCE_DATABASE": source.database,
      "REPLICATE_TARGET_HOST": target.host, "REPLICATE_TARGET_PORT": target.port,
      "REPLICATE_TARGET_DATABASE": target.database,
      // Their passwords are in these; a step that needs one brings its own.
      "REPLICATE_SOURCE": nil, "REPLICATE_TARGET": nil,
    ]
  }

  private func words(_ outcome: BoundedCommand.Outcome) -> (failure: String?, said: String?) {
    switch outcome {
    case .ended(.exited(0), let output, let error): (nil, lastLine(output) ?? lastLine(error))
    case .ended(.exited(let code), let output, let error):
      ("exit code \(code)", lastLine(error) ?? lastLine(output))
    case .ended(.signaled(let signal), let output, let error):
      ("ended by signal \(signal)", lastLine(error) ?? lastLine(output))
    case .timedOut: ("took longer than \(timeLimit) and was killed", nil)
    case .cancelled: ("was interrupted", nil)
    case .failedToRun(let why): ("could not be run", why)
    }
  }

  private func lastLine(_ output: [UInt8]) -> String? { BoundedCommand.lines(output).last }
}
