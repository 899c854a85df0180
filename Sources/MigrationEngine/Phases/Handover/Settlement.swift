import LibPQ
import Logging

/// What remains to be done on an end that a cutover or rollback has opened: restore identity columns and
/// triggers that fire for replicated changes, and drop our triggers. All of it takes ACCESS EXCLUSIVE locks,
/// which a reader may block for hours, so it is done after the opening, as locks become available.
struct Settlement: Sendable {
  /// `back` where a rollback has opened the source.
  let direction: Direction
  let source: Connection?
  let target: Connection
  let logger: Logger

  /// How long the engine works on it without doing anything else.
  private static let turn = Duration.seconds(2)

  func make(within limit: Duration = turn) async throws -> LateChanges.Left {
    switch direction {
    case .forward:
      // With reverse replication, its end restores replica identities.
      let isReversible = try await StateStore(target).reverseReplication() != nil
      let identities = isReversible ? [] : try await FullIdentity.owed(on: target)
      return try await TargetFence(target).settle(
        try await IdentityColumns.owed(try await identityColumns(), on: target) + identities, within: limit)
    case .back:
      guard let source else { return LateChanges.Left() }
      return try await WriteFence(source).settle(
        try await Self.changedByReverseReplication(on: source), within: limit)
    }
  }

  /// Undoes what reverse replication changed on the source that was left; its fence stays.
  func giveBack(within limit: Duration) async throws -> LateChanges.Left {
    guard let source else { return LateChanges.Left() }
    for statement in try await SuspendedTriggers(connection: source).releasing() {
      try await source.query(statement, doing: "enabling the source's event triggers", within: .seconds(15))
    }
    return try await LateChanges(connection: source).make(
      try await Self.changedByReverseReplication(on: source), within: limit)
  }

  /// The recorded statements that restore the source's columns and triggers to their state before reverse
  /// replication.
  static func changedByReverseReplication(on source: Connection) async throws -> [LateChange] {
    try await IdentityColumns.noted(on: source) + SuspendedTriggers(connection: source).owed()
  }

  /// Until all is done, or the task is cancelled.
  func makeAll() async throws {
    var reported = LateChanges.Left()
    while true {
      let left = try await make()
      guard !left.isEmpty else { return }
      report(left, &reported)
      if left.untried == 0 { try await Task.sleep(for: .seconds(1)) }
    }
  }

  /// - Parameter reported: what was reported last.
  func report(_ left: LateChanges.Left, _ reported: inout LateChanges.Left) {
    guard left.obstacles.count != reported.obstacles.count else { return }
    reported = left
    logger.warning(
      "the \(direction.to) is open; what needs table locks there is done as they become available",
      metadata: ["what": "\(left.words)"])
  }

  /// - Throws: `MigrationError` that names what is left after `limit`, and what is in the way.
  func insist(within limit: Duration) async throws {
    try await LateChanges.insist(
      doing: "doing on the \(direction.to) what needs the locks of its tables", within: limit
    ) { try await make(within: $0) }
  }

  /// Those of the target that were GENERATED ALWAYS on the source when the cutover began.
  private func identityColumns() async throws -> [IdentityColumns.Column] {
    let store = StateStore(target)
    guard let cutover = try await store.completedCutover(.forward) else { return [] }
    return try await store.needs(of: cutover.id, as: SourceLoss.Needs.self)?.identityColumns ?? []
  }
}
