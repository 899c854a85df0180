import LibPQ
import Logging

/// One cutover: from the request to a target that accepts writes, or back to a source that does.
struct Cutover: Sendable {
  let ends: Leg.Addresses
  let handover: any Handover
  let logger: Logger
  /// Called when a step begins, during the write pause: it must not wait for anything.
  let onStep: @Sendable (Status.Cutover) -> Void

  /// - Parameter prelude: what is already reported of it.
  /// - Returns: a report whose result is `complete`, or `aborted` with the reason: then the source accepts
  ///   writes.
  /// - Throws: `CancellationError` when the engine was asked to stop while the source may be sealed and the
  ///   target is not open: `resume` continues. `PostgresError` when an end was lost before anything began.
  func perform(
    _ request: CutoverRequest, after prelude: Status.Cutover? = nil
  ) async throws -> Status.Cutover {
    do {
      return try await withRun(request) { try await $0.begin(after: prelude) }
    } catch let error as PostgresError where error.isAnswered {
      // A refused login: nothing has begun, and what is connected continues.
      var report = prelude ?? Status.Cutover(step: .aborted)
      report.step = .aborted
      if ends.direction == .back { report.direction = .back }
      report.result = .aborted
      report.reason = "\(error)"
      return report
    }
  }

  /// Finishes or undoes the cutover of an engine that ended in the middle of it.
  /// - Parameters:
  ///   - earlier: what that engine had stored. Once it says that the source is sealed and the target has
  ///     everything, the source is no longer needed.
  ///   - asksSource: false where it is known to be lost.
  func resume(
    from fence: SourceState.Fence, request: CutoverRequest, earlier: Status.Cutover? = nil,
    asksSource: Bool = true
  ) async throws -> Status.Cutover {
    try await withRun(request, !asksSource ? .lost : earlier?.seal == .stands ? .useful : .needed) {
      try await $0.resume(from: fence, earlier)
    }
  }

  /// What a resumed cutover needs of the source.
  enum Need: Sendable {
    case needed
    /// It may be silent.
    case useful
    /// It must not be asked.
    case lost
  }

  private func withRun(
    _ request: CutoverRequest, _ need: Need = .needed, _ body: (CutoverRun) async throws -> Status.Cutover
  ) async throws -> Status.Cutover {
    let target = try await ends.openTaking()
    let run: CutoverRun
    do {
      run = try await CutoverRun(request, of: self, target: target, need: need)
    } catch {
      await target.close()
      throw error
    }
    func end() async {
      await handover.forgetMarker()
      await handover.comparison?.close()
      await run.close()
    }
    return try await finally(end) { try await body(run) }
  }
}

extension Leg.Addresses {
  /// A session on the end that writes leave.
  func openLeft() async throws -> Connection {
    let connection = try await Session.open(from, end: direction.from, purpose: "cutover")
    try await Session.actAsReplica(connection)
    // If a failover loses this, the fence's expiry makes up for it; the seal waits for standbys. A lost
    // standby would hold up everything else, even removing the fence.
    try await connection.query(
      "SET synchronous_commit = local", doing: "preparing the cutover on the \(direction.from)",
      within: .seconds(15))
    return connection
  }

  /// A session on the end that writes move to.
  func openTaking() async throws -> Connection {
    try await Session.open(to, end: direction.to, purpose: "cutover")
  }
}
