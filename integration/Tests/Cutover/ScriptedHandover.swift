import Synchronization

@testable import MigrationEngine

/// A handover whose stages do what a test says: nothing unless asked to, and a switch of one step. It notes
/// each call by the name that it has in the protocol.
struct ScriptedHandover: Handover {
  /// A call by its name, of those of that name the first or a later one.
  struct Call: Sendable, CustomStringConvertible {
    var name: String
    var number: Int

    init(_ name: String, _ number: Int = 1) { (self.name, self.number) = (name, number) }

    var description: String { number == 1 ? name : "\(name) \(number)" }
  }

  /// What was called, in its order, and what fails of it.
  final class Calls: Sendable {
    private let names = Mutex<[String]>([])
    /// Fails this once; a later try goes through.
    private let failing: Call?

    init(failing: Call? = nil) { self.failing = failing }

    var all: [String] { names.withLock { $0 } }

    /// - Returns: whether this is the call that is to fail.
    @discardableResult
    func note(_ name: String) -> Bool {
      names.withLock { names in
        names.append(name)
        return name == failing?.name && names.count { $0 == name } == failing?.number
      }
    }

    func meet(_ name: String) throws {
      guard note(name) else { return }
      throw MigrationError(.failed, doing: name, reason: "\(name) was to fail")
    }
  }

  var onLag: @Sendable () async -> (bytes: Int64, predictedPauseSeconds: Double?) = { (0, 0.1) }
  var onFinalisingSeconds: @Sendable () async throws -> Double = { 0 }
  var onDrain: @Sendable (String, ContinuousClock.Instant) async throws -> Void = { _, _ in }
  var onEnsureNoBreach: @Sendable () async throws -> Void = {}
  var onFinaliseTables: @Sendable () async throws -> String = { "nothing" }
  var onSettleTables: @Sendable () async throws -> String = { "" }
  var onRecord: @Sendable (Status.Cutover) async throws -> Void = { _ in }
  var onLeftBehind: @Sendable () async -> String? = { nil }
  var onSwitchOver: @Sendable (String?, SwitchEvents) async -> String? = { _, events in
    await events.onStep("moved", .milliseconds(1), "")
    return nil
  }
  var calls = Calls()
  var scriptedPoolers: ScriptedPoolers?
  var compares = false
  /// What a comparison finds; nil: both ends are equal.
  var difference: String?

  func lag() async -> (bytes: Int64, predictedPauseSeconds: Double?) {
    calls.note("lag")
    return await onLag()
  }
  func finalisingSeconds() async throws -> Double {
    try calls.meet("finalisingSeconds")
    return try await onFinalisingSeconds()
  }
  func origins() async -> [(name: String, age: Duration)] {
    calls.note("origins")
    return []
  }
  func ensureSchemas() async throws -> [String] {
    try calls.meet("ensureSchemas")
    return []
  }
  var excluded: Set<RelationName> { [] }
  var poolers: (any HandoverPoolers)? {
    var poolers = scriptedPoolers
    poolers?.calls = calls
    return poolers
  }
  let messages = SentMessages()
  func expectMarker(_ nonce: String, for purpose: MarkerPurpose) async { calls.note("expectMarker") }
  func drain(_ nonce: String, until deadline: ContinuousClock.Instant) async throws {
    try calls.meet("drain")
    try await onDrain(nonce, deadline)
  }
  func finaliseTables() async throws -> String {
    try calls.meet("finaliseTables")
    return try await onFinaliseTables()
  }
  func ensureNoBreach() async throws {
    try calls.meet("ensureNoBreach")
    try await onEnsureNoBreach()
  }
  var comparison: (any HandoverComparison)? {
    compares ? ScriptedComparison(calls: calls, difference: difference) : nil
  }
  func record(_ report: Status.Cutover) async throws {
    try calls.meet("record")
    try await onRecord(report)
  }
  func hold(until deadline: ContinuousClock.Instant) async throws -> String? {
    try calls.meet("hold")
    return nil
  }
  func settleTables() async throws -> String {
    try calls.meet("settleTables")
    return try await onSettleTables()
  }
  func switchOver(fenceLSN: String?, _ events: SwitchEvents) async -> String? {
    guard !calls.note("switchOver") else { return "switchOver was to fail" }
    return await onSwitchOver(fenceLSN, events)
  }
  func leftBehind() async -> String? {
    calls.note("leftBehind")
    return await onLeftBehind()
  }
  func forgetMarker() async { calls.note("forgetMarker") }
}

struct ScriptedPoolers: HandoverPoolers {
  var onPause: @Sendable (ContinuousClock.Instant) async throws -> String = { _ in "clients wait" }
  /// It must work in a task that was cancelled as well.
  var onResume: @Sendable () async throws -> String = {
    try Task.checkCancellation()
    return "clients go on"
  }
  fileprivate(set) var calls = ScriptedHandover.Calls()

  init() {}

  func pause(until deadline: ContinuousClock.Instant) async throws -> String {
    try calls.meet("pause")
    return try await onPause(deadline)
  }
  /// The sessions that keep a pause waiting.
  var busy: [Int32] = []
  func busyServers() async throws -> [Int32] {
    try calls.meet("busyServers")
    return busy
  }
  func resume() async throws -> String {
    try calls.meet("resume")
    return try await onResume()
  }
}

private struct ScriptedComparison: HandoverComparison {
  let calls: ScriptedHandover.Calls
  let difference: String?

  func predictedSeconds(within secondsLeft: Double) async throws -> Double {
    try calls.meet("predictedSeconds")
    return 0
  }
  func compare(at fenceLSN: String?) async throws -> Status.Comparison {
    try calls.meet("compare")
    return Status.Comparison(
      extent: .full, result: difference == nil ? .equal : .different, digest: "", tables: 1,
      summary: difference ?? "1 table compared", seconds: 0)
  }
  func close() async { calls.note("close") }
}
