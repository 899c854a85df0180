/// The order of a migration, as a pure state machine: events in, the next action out.
struct PhaseMachine: Sendable, Equatable {
  enum Event: Sendable, Equatable {
    case preflightPassed
    case schemaTransferred
    case tablesCopied
    case indexesBuilt
    case caughtUp
    case cutoverBegun
    case cutoverAborted
    case targetOpened
    /// And what is written there goes back to the source.
    case targetOpenedReversibly
    /// A rollback is complete, or reverse replication was ended.
    case reverseEnded
    case abortRequested
  }

  enum Action: Sendable, Equatable {
    case transferSchema
    case copyTables
    case buildIndexes
    case catchUp
    case stream
    case cutOver
    case streamBack
    case stop
  }

  /// An event that cannot happen in the phase the migration is in.
  struct Impossible: Error, Sendable, Equatable, CustomStringConvertible {
    let phase: Phase
    let event: Event
    var description: String { "event \(event) cannot happen in phase \(phase.rawValue)" }
  }

  private(set) var phase: Phase

  /// What an engine that finds the stored phase does first.
  func resume() -> Action {
    switch phase {
    case .preflight, .schema: .transferSchema
    case .copy: .copyTables
    case .index: .buildIndexes
    case .catchup: .catchUp
    case .streaming: .stream
    case .cutover: .cutOver
    case .reverse: .streamBack
    case .complete, .aborted, .failed: .stop
    }
  }

  mutating func handle(_ event: Event) throws(Impossible) -> Action {
    let (phases, next) = Self.transition(event)
    guard phases.contains(phase) else { throw Impossible(phase: phase, event: event) }
    phase = next
    return resume()
  }

  /// The phases in which an event may occur, and the phase it leads to.
  private static func transition(_ event: Event) -> (from: Set<Phase>, to: Phase) {
    switch event {
    case .preflightPassed: ([.preflight], .schema)
    case .schemaTransferred: ([.schema], .copy)
    case .tablesCopied: ([.copy], .index)
    case .indexesBuilt: ([.index], .catchup)
    case .caughtUp: ([.catchup], .streaming)
    case .cutoverBegun: ([.streaming], .cutover)
    case .cutoverAborted: ([.cutover], .streaming)
    case .targetOpened: ([.cutover], .complete)
    case .targetOpenedReversibly: ([.cutover], .reverse)
    case .reverseEnded: ([.reverse], .complete)
    case .abortRequested:
      ([.preflight, .schema, .copy, .index, .catchup, .streaming, .cutover], .aborted)
    }
  }
}
