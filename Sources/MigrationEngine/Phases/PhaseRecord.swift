/// Keeps where the migration stands, for the code that walks through the phases.
protocol PhaseKeeper: Sendable {
  var current: Phase { get async }
  /// What an engine that finds this stored phase does first.
  func resume() async -> PhaseMachine.Action
  /// Stores the phase that an event leads to, before anything is done in it.
  @discardableResult
  func advance(_ event: PhaseMachine.Event) async throws -> PhaseMachine.Action
}

/// The phase, in memory and on the target.
actor PhaseRecord: PhaseKeeper {
  private var phases: PhaseMachine
  private let store: StateStore
  private let board: StatusBoard

  init(_ phase: Phase, _ store: StateStore, _ board: StatusBoard) {
    phases = PhaseMachine(phase: phase)
    self.store = store
    self.board = board
  }

  var current: Phase { phases.phase }

  func resume() -> PhaseMachine.Action { phases.resume() }

  @discardableResult
  func advance(_ event: PhaseMachine.Event) async throws -> PhaseMachine.Action {
    var next = phases
    let action = try next.handle(event)
    try await store.store(next)
    phases = next
    let phase = next.phase
    board.update { $0.phase = phase }
    return action
  }

  /// Stores how a cutover ended, and in the same commit the phase that the event leads to.
  func end(_ cutover: CutoverEnd, _ event: PhaseMachine.Event?) async throws {
    var next = phases
    var end = cutover
    if let event {
      _ = try next.handle(event)
      end.phase = next.phase
    }
    board.unstored.keep(end)
    guard try await board.unstored.store(in: store) else {
      throw MigrationError(
        .failed, doing: "storing how the cutover ended", reason: "the target's state has it as ended",
        remedy: "Another engine may have done so: look at replicate status, then run replicate start.")
    }
    phases = next
    let phase = next.phase
    board.update { $0.phase = phase }
  }
}
