import Logging

/// The work of each phase. Every part of it can be repeated after a crash in the middle.
protocol PhaseWork: Sendable {
  /// Puts an earlier run's copy into the status.
  func begin() async throws
  func transferSchema() async throws
  func copyTables() async throws
  func buildIndexes() async throws
  func catchUp() async throws
  /// Streams until a cutover is complete.
  /// - Parameter resumesCutover: an engine before this one ended in the middle of a cutover.
  func stream(resumesCutover: Bool) async throws -> Status.Cutover
  /// The cutover is complete, and nothing flows back.
  func conclude() async throws
  func streamBack() async throws -> Migration.Outcome
  /// The migration is complete; an earlier engine may not have cleaned up.
  func stop() async throws -> Migration.Outcome
}

/// Walks through the phases in the order `PhaseMachine` gives, from wherever the migration stands.
struct PhaseRunner: Sendable {
  let phase: any PhaseKeeper
  let work: any PhaseWork
  let logger: Logger

  /// How an engine run ended.
  enum End: Sendable {
    case outcome(Migration.Outcome)
    /// The target is open: the next run streams back.
    case turned
  }

  func run() async throws -> End {
    try await work.begin()
    var action = await phase.resume()
    while true {
      let current = await phase.current
      logger.info("phase \(current.rawValue)")
      switch action {
      case .transferSchema:
        try await work.transferSchema()
        action = try await phase.advance(.schemaTransferred)
      case .copyTables:
        try await work.copyTables()
        action = try await phase.advance(.tablesCopied)
      case .buildIndexes:
        try await work.buildIndexes()
        action = try await phase.advance(.indexesBuilt)
      case .catchUp:
        try await work.catchUp()
        action = try await phase.advance(.caughtUp)
      case .stream, .cutOver:
        let report = try await work.stream(resumesCutover: action == .cutOver)
        guard await phase.current == .reverse else {
          try await work.conclude()
          return .outcome(.complete(report))
        }
        logger.notice(
          """
          the cutover is complete; this engine continues and carries the target's writes back to the source, \
          until replicate finish or replicate rollback
          """, metadata: ["pause": "\(report.writePauseSeconds ?? 0) s"])
        return .turned
      case .streamBack: return .outcome(try await work.streamBack())
      case .stop: return .outcome(try await work.stop())
      }
    }
  }
}
