import LibPQ
import LogicalReplication
import Synchronization

/// Reports one cutover or rollback: in the status, and in the state on the target.
struct CutoverRecord: Sendable {
  let board: StatusBoard
  let store: StateStore

  /// Reports one that is under way.
  func publish(_ report: Status.Cutover, _ cutover: StoredCutover) async throws {
    board.update { $0.cutover = report }
    try await store.store(report, of: cutover.id, state: .running)
  }

  /// Reports one that has ended.
  /// - Parameter event: which moves the migration to another phase, in the same commit; nil: it stays.
  func end(
    _ report: Status.Cutover, _ cutover: StoredCutover, _ state: StoredCutover.State, _ phase: PhaseRecord,
    _ event: PhaseMachine.Event? = nil
  ) async throws {
    board.update { $0.cutover = report }
    try await phase.end(CutoverEnd(id: cutover.id, report: report, state: state), event)
    await Failpoint.reached("after \(state.rawValue)")
    for warning in report.warnings ?? [] { try await store.note("warning of the cutover: \(warning)") }
  }

  /// Stores how far it is, while it is under way.
  func keep(_ report: Status.Cutover, _ cutover: StoredCutover) async throws {
    try await store.store(report, of: cutover.id, state: .running)
    if report.seal == .stands { board.endNeedOfSource() }
  }

  /// Whether an error is not the cutover's own and ends the engine run. A refused new session does not, while
  /// the other sessions continue.
  static func endsAttempt(_ error: any Error) -> Bool {
    if error is CancellationError { return true }
    guard let error = error as? PostgresError else { return false }
    return error.isConnectionLoss && !error.isAnswered
  }
}

/// How a cutover ended, until that is stored: the target may be away just then, and the next engine run
/// stores it.
final class PendingCutoverResult: Sendable {
  private let state = Mutex<(end: CutoverEnd, isCutShort: Bool)?>(nil)

  func keep(_ end: CutoverEnd) {
    let isCutShort = Task.isCancelled && end.state == .aborted
    state.withLock { $0 = (end, isCutShort) }
  }

  func forget() { state.withLock { $0 = nil } }

  /// A cutover that was cut short does not know why; the error that ended the engine run says so.
  func explain(by error: any Error) {
    state.withLock { state in
      guard state?.isCutShort == true else { return }
      state?.end.report.reason = "it was cut short: \(error)"
      state?.isCutShort = false
    }
  }

  /// Stores nothing of a cutover that another engine has ended meanwhile.
  /// - Returns: false when there was nothing to store.
  func store(in store: StateStore) async throws -> Bool {
    guard let end = state.withLock({ $0?.end }) else { return false }
    let isStored = try await store.store(end)
    forget()
    return isStored
  }
}
