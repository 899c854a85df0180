/// What a step does. Every action finds out what is done already, so that it can be run again.
protocol SwitchAction: Sendable {
  /// Looks, changes nothing, and takes a few seconds at most.
  /// - Returns: what would keep the step from doing its work.
  func examine(_ scene: SwitchScene) async -> [SwitchFinding]

  /// - Parameter deadline: what waits for something ends by then, and says what it waited for. Shortly after
  ///   it the task is cancelled.
  /// - Returns: what was done, in a line.
  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String
}

/// What the steps are told of the cutover.
struct SwitchScene: Sendable {
  var direction = Direction.forward
  /// The end that clients leave.
  var source: Switchover.End
  /// The end that they are led to.
  var target: Switchover.End
  var fenceLSN: String?
  var appliedLSN: String?
}

/// Why a step did not do what it should.
struct SwitchFailure: Error, Equatable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// What an examination found, and how to mend it.
struct SwitchFinding: Sendable, Equatable {
  enum Severity: Sendable { case note, warning, blocker }

  var severity: Severity
  var why: String
  var remedy: String

  static func blocker(_ why: String, _ remedy: String) -> SwitchFinding {
    SwitchFinding(severity: .blocker, why: why, remedy: remedy)
  }

  static func warning(_ why: String, _ remedy: String) -> SwitchFinding {
    SwitchFinding(severity: .warning, why: why, remedy: remedy)
  }

  static func note(_ why: String, _ remedy: String) -> SwitchFinding {
    SwitchFinding(severity: .note, why: why, remedy: remedy)
  }
}
