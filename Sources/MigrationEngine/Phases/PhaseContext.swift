import LibPQ
import Logging

/// What every phase of one engine run works with.
struct PhaseContext: Sendable {
  /// As given: `source` is the end that is moved.
  let options: MigrationOptions
  let logger: Logger
  let ends: Endpoints
  let board: StatusBoard
  let phase: PhaseRecord
}

/// A part of a phase.
protocol PhasePart: Sendable {
  var context: PhaseContext { get }
}

extension PhasePart {
  var options: MigrationOptions { context.options }
  var logger: Logger { context.logger }
  var ends: Endpoints { context.ends }
  var board: StatusBoard { context.board }
  var phase: PhaseRecord { context.phase }
  /// On the target, whichever end changes go to.
  var store: StateStore { StateStore(ends.target) }
}
