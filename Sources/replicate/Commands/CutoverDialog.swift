import LibPQ
import Logging
import MigrationEngine

/// Requests a cutover or rollback from the engine, follows it and prints its report.
struct CutoverDialog: Sendable {
  let ends: EndOptions
  let limits: CutoverLimits
  let log: LogOptions

  func run(_ direction: Direction, in surroundings: Surroundings) async throws -> ExitStatus {
    let source = try ends.optionalSource(in: surroundings.environment)
    let target = try ends.requiredTarget(in: surroundings.environment)
    let name = direction == .forward ? "cutover" : "rollback"
    let writer = log.writer(in: surroundings)
    let logger = log.logger(writer)
    let follower = CutoverFollower(writer: writer)
    let request = limits.request(direction, by: surroundings.user)
    do {
      let cutover = try await surroundings.interruption.leaving(
        onLeave: {
          follower.finish()
          writer.write(
            "no longer following; the engine continues the \(name): repeat the command to follow it again",
            level: .notice
          )
        },
        { try await surroundings.engine.cutover(source, target, logger, request) { follower.show($0) } })
      follower.finish()
      show(cutover, follower, surroundings)
      return ExitStatus(cutover)
    } catch {
      follower.finish()
      // The steps show why it was aborted; the error itself is printed once, on stderr.
      if ExitStatus(error) == .cutoverAborted, let cutover = follower.latest?.cutover,
        cutover.result == .aborted
      {
        show(cutover, follower, surroundings)
      }
      throw error
    }
  }

  private func show(_ cutover: Status.Cutover, _ follower: CutoverFollower, _ surroundings: Surroundings) {
    surroundings.output.line(
      CutoverPrinter.text(cutover, encryption: follower.latest?.target.encryption))
  }
}
