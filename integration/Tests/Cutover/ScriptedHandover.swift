@testable import MigrationEngine

/// A handover whose stages do what a test says: nothing unless told, and a switch of one step.
struct ScriptedHandover: Handover {
  var onLag: @Sendable () async -> (bytes: Int64, predictedPauseSeconds: Double?) = { (0, 0.1) }
  var onFinalisingSeconds: @Sendable () async throws -> Double = { 0 }
  var onDrain: @Sendable (String, ContinuousClock.Instant) async throws -> Void = { _, _ in }
  var onEnsureNoBreach: @Sendable () async throws -> Void = {}
  var onFinaliseTables: @Sendable () async throws -> String = { "nothing" }
  var onSettleTables: @Sendable () async throws -> String = { "" }
  var onLeftBehind: @Sendable () async -> String? = { nil }
  var onRecord: @Sendable (Status.Cutover) async throws -> Void = { _ in }
  var onSwitchOver: @Sendable (String?, SwitchEvents) async -> String? = { _, events in
    await events.onStep("moved", .milliseconds(1), "")
    return nil
  }
  var scriptedPoolers: ScriptedPoolers?
  /// The call that fails, by its name.
  var failing: String?

  private func meet(_ call: String) throws {
    if failing == call { throw MigrationError(.failed, doing: call, reason: "\(call) was to fail") }
  }

  func lag() async -> (bytes: Int64, predictedPauseSeconds: Double?) { await onLag() }
  func origins() async -> [(name: String, age: Duration)] { [] }
  func finalisingSeconds() async throws -> Double {
    try meet("finalisingSeconds")
    return try await onFinalisingSeconds()
  }
  func ensureSchemas() async throws -> [String] {
    try meet("ensureSchemas")
    return []
  }
  var excluded: Set<RelationName> { [] }
  var poolers: (any HandoverPoolers)? { scriptedPoolers }
  let messages = SentMessages()
  func expectMarker(_ nonce: String, for purpose: MarkerPurpose) async {}
  func drain(_ nonce: String, until deadline: ContinuousClock.Instant) async throws {
    try meet("drain")
    try await onDrain(nonce, deadline)
  }
  func forgetMarker() async {}
  func ensureNoBreach() async throws {
    try meet("ensureNoBreach")
    try await onEnsureNoBreach()
  }
  func finaliseTables() async throws -> String {
    try meet("finaliseTables")
    return try await onFinaliseTables()
  }
  var comparison: (any HandoverComparison)? { nil }
  func record(_ report: Status.Cutover) async throws {
    try meet("record")
    try await onRecord(report)
  }
  func hold(until deadline: ContinuousClock.Instant) async throws -> String? { nil }
  func settleTables() async throws -> String {
    try meet("settleTables")
    return try await onSettleTables()
  }
  func switchOver(fenceLSN: String?, _ events: SwitchEvents) async -> String? {
    await onSwitchOver(fenceLSN, events)
  }
  func leftBehind() async -> String? { await onLeftBehind() }
}

struct ScriptedPoolers: HandoverPoolers {
  var onPause: @Sendable (ContinuousClock.Instant) async throws -> String
  var onResume: @Sendable () async throws -> String

  func pause(until deadline: ContinuousClock.Instant) async throws -> String { try await onPause(deadline) }
  func busyServers() async throws -> [Int32] { [] }
  func resume() async throws -> String { try await onResume() }
}
