import LogicalReplication

/// From the target back to the source, in a rollback. The source, which was sealed before, opens; should the
/// target be lost meanwhile, nothing goes on without it, so nothing is recorded on the way.
struct ReverseHandover: StreamedHandover {
  let stages: HandoverStages

  func record(_ report: Status.Cutover) async throws {}

  func settleTables() async throws -> String { try await bringOverAgain() }

  func switchOver(fenceLSN: String?, _ events: SwitchEvents) async -> String? {
    await stages.switchover.performSteps(
      fenceLSN: fenceLSN, appliedLSN: stages.monitor.reading.feedback.appliedLSN.description,
      Switchover.Events(events))
  }
}
