import Subprocess

/// The user's own proof: `--encryption-evidence COMMAND`, run through `/bin/sh -c`.
///
/// Exit code 0 attests; the first line of its stdout is what the report will quote. It finds the target in
/// `REPLICATE_TARGET_HOST`, `_PORT`, `_DATABASE` and `_SYSTEM_IDENTIFIER`, each only if it is known.
struct CommandEvidence: Sendable {
  let command: String
  /// After this the command and its children are killed.
  let timeLimit: Duration

  init(command: String, timeLimit: Duration = .seconds(60)) {
    self.command = command
    self.timeLimit = timeLimit
  }

  func examine(server: TargetServerFacts) async -> EncryptionEvidence {
    // A value in our own environment would refer to another server: nil removes it.
    let environment: [Environment.Key: String?] = [
      "REPLICATE_TARGET_HOST": server.host,
      "REPLICATE_TARGET_PORT": server.port.map(String.init),
      "REPLICATE_TARGET_DATABASE": server.database,
      "REPLICATE_TARGET_SYSTEM_IDENTIFIER": server.systemIdentifier,
    ]
    let outcome = await BoundedCommand(shell: command, changing: environment, timeLimit: timeLimit).run()
    return Self.evidence(outcome, timeLimit: timeLimit)
  }

  static func evidence(_ outcome: BoundedCommand.Outcome, timeLimit: Duration) -> EncryptionEvidence {
    switch outcome {
    case .ended(.exited(0), let output, _):
      let said = BoundedCommand.lines(output).first
      return EncryptionEvidence(
        status: .attested, provider: .command, detail: said ?? "the command exited with 0 and said nothing")
    case .ended(.exited(let code), _, let error):
      return unverified("the command exited with \(code)", BoundedCommand.lines(error).last)
    case .ended(.signaled(let signal), _, let error):
      return unverified("the command was ended by signal \(signal)", BoundedCommand.lines(error).last)
    case .timedOut:
      return unverified("the command took longer than \(timeLimit) and was killed", nil)
    case .cancelled:
      return unverified("the command was interrupted", nil)
    case .failedToRun(let why):
      return unverified("the command could not be run", why)
    }
  }

  private static func unverified(_ what: String, _ more: String?) -> EncryptionEvidence {
    EncryptionEvidence(
      status: .unverified, provider: .command, detail: more.map { "\(what): \($0)" } ?? what)
  }
}
