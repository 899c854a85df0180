import LibPQ
import Logging
import LogicalReplication

/// From the source to the target: the state is on the end that opens, and says that the source is no longer
/// needed.
struct ForwardHandover: StreamedHandover {
  let stages: HandoverStages
  let store: StateStore

  func record(_ report: Status.Cutover) async throws {
    try await CutoverRecord(board: stages.board, store: store).keep(report, stages.stored)
  }

  func settleTables() async throws -> String {
    let again = try await bringOverAgain()
    try await store.noteOpening()
    return again
  }

  func switchOver(fenceLSN: String?, _ events: SwitchEvents) async -> String? {
    await stages.tables.deactivateJobs(stages.leg, stages.logger)
    return await stages.switchover.performSteps(
      fenceLSN: fenceLSN, appliedLSN: await store.appliedLSN(stages.logger), Switchover.Events(events))
  }
}

extension StateStore {
  /// Where the target has applied to; only information for the switch steps, so nothing fails without it.
  func appliedLSN(_ logger: Logger) async -> String? {
    do {
      return try await progress()?.appliedLSN.description
    } catch {
      logger.warning("the applied LSN could not be read", metadata: ["why": "\(error)"])
      return nil
    }
  }
}
