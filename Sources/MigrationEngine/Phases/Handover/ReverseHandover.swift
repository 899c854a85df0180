import LogicalReplication

/// From the target back to the source, in a rollback. The sealed source opens. Without the target nothing can
/// continue, so nothing is recorded for its loss.
struct ReverseHandover: StreamedHandover {
  let stages: HandoverStages

  func record(_ report: Status.Cutover) async throws {}

  func settleTables() async throws -> String { try await bringOverAgain() }

  func switchOver(fenceLSN: String?, _ events: SwitchEvents) async -> String? {
    await stages.tables.deactivateJobs(stages.leg, stages.logger)
    return await stages.switchover.performSteps(
      fenceLSN: fenceLSN, appliedLSN: stages.monitor.reading.feedback.appliedLSN.description,
      Switchover.Events(events))
  }
}
