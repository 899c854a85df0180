import LibPQ

/// What a step does. Every action finds out what is already done, so that it can be repeated.
protocol SwitchAction: Sendable {
  /// Only looks, for a few seconds at most.
  /// - Returns: what would prevent the step from working.
  func examine(_ scene: SwitchScene) async -> [SwitchFinding]

  /// - Parameter deadline: waits end by then, and say what they waited for. Shortly afterwards the task is
  ///   cancelled.
  /// - Returns: what was done, in one line.
  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String
}

/// What the steps know about the cutover.
struct SwitchScene: Sendable {
  var direction = Direction.forward
  /// The end that clients leave.
  var source: Switchover.End
  /// The end that they move to.
  var target: Switchover.End
  /// Databases, as clients of poolers call them, that steps of the plan move.
  var pooledDatabases: Set<String> = []
  /// How the engine reaches both ends; nil where no step needs it.
  var connections: (left: ConnectionString, next: ConnectionString)?
  /// A cutover is about to begin, or under way.
  var isAttempt = false
  /// What that may take at most, as `--timeout` says, and so how long clients of poolers may have to wait.
  var timeoutSeconds = 60.0
  /// The end that clients leave does not answer any more.
  var isLeftLost = false
  /// DNS records that steps of the plan move.
  var movedRecords: Set<Route53Action.Key> = []
  var fenceLSN: String?
  var appliedLSN: String?
  /// What an earlier engine noted during the step before it died; empty: nothing.
  var noted = ""
  /// Notes what the next engine must know of the step under way, should this one die.
  var note: @Sendable (String) async -> Void = { _ in }
}

extension SwitchScene {
  /// The end that clients leave, in messages.
  var leftName: String { direction.from }
  /// The end that they move to.
  var nextName: String { direction.to }

  /// With what the steps of the plan move.
  func moving(_ plan: SwitchPlan) -> SwitchScene {
    var scene = self
    for step in plan.steps {
      switch step.action {
      case .pgBouncer(let pgBouncer):
        scene.pooledDatabases.formUnion(pgBouncer.poolers.map(\.database))
      case .route53(let record):
        scene.movedRecords.insert(Route53Action.Key(name: record.record, type: record.type))
      default: continue
      }
    }
    return scene
  }
}

/// Why a step failed.
struct SwitchFailure: Error, Equatable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// What an examination found, and how to fix it.
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
