import LibPQ

/// What is told of one cutover or rollback: to the status, and to the state on the target.
struct MigrationCutoverRecord: Sendable {
  let board: MigrationBoard
  let store: StateStore

  func tell(_ report: Status.Cutover, _ cutover: StoredCutover, _ state: StoredCutover.State) async throws {
    board.update { $0.cutover = report }
    try await store.store(report, of: cutover.id, state: state)
    guard state != .running else { return }
    for warning in report.warnings ?? [] { try await store.note("warning of the cutover: \(warning)") }
  }

  /// In the middle of it.
  func keep(_ report: Status.Cutover, _ cutover: StoredCutover) async throws {
    try await store.store(report, of: cutover.id, state: .running)
    if report.isSealed == true { board.endNeedOfSource() }
  }

  /// Whether an error is none of the cutover's: the engine's attempt ends with it.
  static func endsAttempt(_ error: any Error) -> Bool {
    error is CancellationError || (error as? PostgresError)?.isConnectionLoss == true
  }
}
