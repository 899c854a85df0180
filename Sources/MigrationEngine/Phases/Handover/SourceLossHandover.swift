import Logging

/// Where the source is lost after its seal: the target has everything, so nothing is left to drain, copy or
/// compare.
struct SourceLossHandover: Handover {
  let stored: StoredCutover
  let switchover: Switchover
  let board: StatusBoard
  let store: StateStore
  let logger: Logger

  func lag() async -> (bytes: Int64, predictedPauseSeconds: Double?) { (0, nil) }
  func origins() async -> [(name: String, age: Duration)] { [] }
  func finalisingSeconds() async throws -> Double { 0 }
  func ensureSchemas() async throws -> [String] { [] }
  var excluded: Set<RelationName> { [] }
  var poolers: (any HandoverPoolers)? { nil }
  /// None is written.
  let messages = SentMessages()
  func expectMarker(_ nonce: String, for purpose: MarkerPurpose) async {}
  func drain(_ nonce: String, until deadline: ContinuousClock.Instant) async throws {}
  func forgetMarker() async {}
  func ensureNoBreach() async throws {}
  func finaliseTables() async throws -> String { "" }
  var comparison: (any HandoverComparison)? { nil }

  func record(_ report: Status.Cutover) async throws {
    try await CutoverRecord(board: board, store: store).keep(report, stored)
  }

  func hold(until deadline: ContinuousClock.Instant) async throws -> String? { nil }

  func settleTables() async throws -> String {
    try await store.noteOpening()
    return ", large objects as they were after the fence"
  }

  func switchOver(fenceLSN: String?, _ events: SwitchEvents) async -> String? {
    await switchover.performSteps(
      fenceLSN: fenceLSN, appliedLSN: await store.appliedLSN(logger), Switchover.Events(events))
  }

  func leftBehind() async -> String? { nil }
}
