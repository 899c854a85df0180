import Subprocess

/// A command of the user's, with its environment.
struct SwitchCommand: Sendable {
  let command: String
  let scene: SwitchScene

  /// - Returns: the last line it wrote.
  /// - Throws: `SwitchFailure` unless it exits with 0 in time; then it and its children are killed.
  func execute(within limit: Duration) async throws -> String {
    let outcome = await BoundedCommand(shell: command, changing: environment, timeLimit: limit).run()
    let (failure, said) = Self.words(outcome, limit)
    guard let failure else { return said ?? "" }
    throw SwitchFailure([failure, said].compactMap { $0 }.joined(separator: ": "))
  }

  private var environment: [Environment.Key: String?] {
    // A step that needs a password brings its own.
    let changes: [Environment.Key: String?] = [
      "REPLICATE_PHASE": scene.direction == .forward ? "switch" : "rollback",
      "REPLICATE_FENCE_LSN": scene.fenceLSN, "REPLICATE_APPLIED_LSN": scene.appliedLSN,
      "REPLICATE_SOURCE_HOST": scene.source.host, "REPLICATE_SOURCE_PORT": scene.source.port,
      "REPLICATE_SOURCE_DATABASE": scene.source.database,
      "REPLICATE_TARGET_HOST": scene.target.host, "REPLICATE_TARGET_PORT": scene.target.port,
      "REPLICATE_TARGET_DATABASE": scene.target.database,
    ]
    return changes.merging(BoundedCommand.withoutConnectionStrings) { $1 }
  }

  private static func words(
    _ outcome: BoundedCommand.Outcome, _ limit: Duration
  ) -> (failure: String?, said: String?) {
    switch outcome {
    case .ended(.exited(0), let output, let error): (nil, lastLine(output) ?? lastLine(error))
    case .ended(.exited(let code), let output, let error):
      ("exit code \(code)", lastLine(error) ?? lastLine(output))
    case .ended(.signaled(let signal), let output, let error):
      ("ended by signal \(signal)", lastLine(error) ?? lastLine(output))
    case .timedOut: ("took longer than \(limit) and was killed", nil)
    case .cancelled: ("was interrupted", nil)
    case .failedToRun(let why): ("could not be run", why)
    }
  }

  private static func lastLine(_ output: [UInt8]) -> String? { BoundedCommand.lines(output).last }
}

/// Step `exec`.
struct ExecAction: SwitchAction {
  let command: String
  let timeLimit: Duration

  /// Only its user knows what it needs.
  func examine(_ scene: SwitchScene) async -> [SwitchFinding] { [] }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    try await SwitchCommand(command: command, scene: scene).execute(within: timeLimit)
  }
}
