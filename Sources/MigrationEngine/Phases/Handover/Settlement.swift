import LibPQ
import Logging

/// What an end owes its users once a cutover or a rollback has opened it: identity columns as they were,
/// triggers that fire for replicated changes, tables without triggers of ours. All of it takes the strongest
/// lock of a table, which a reader may keep for hours, so it is done after the opening, as locks can be had.
struct Settlement: Sendable {
  /// `back` where a rollback has opened the source.
  let direction: Direction
  let source: Connection?
  let target: Connection
  let logger: Logger

  /// How long the engine is at it without doing anything else.
  private static let turn = Duration.seconds(2)

  func make(within limit: Duration = turn) async throws -> LateChanges.Left {
    switch direction {
    case .forward:
      // Where there is a way back, its end puts replica identities back.
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

  /// What the way back has changed on the source that was left, and whose fence stays.
  func giveBack(within limit: Duration) async throws -> LateChanges.Left {
    guard let source else { return LateChanges.Left() }
    for statement in try await SuspendedTriggers(connection: source).releasing() {
      try await source.query(statement, doing: "enabling the source's event triggers", within: .seconds(15))
    }
    return try await LateChanges(connection: source).make(
      try await Self.changedByReverseReplication(on: source), within: limit)
  }

  /// What makes columns and triggers of the source what they were before the way back, as it is noted there.
  static func changedByReverseReplication(on source: Connection) async throws -> [LateChange] {
    try await IdentityColumns.noted(on: source) + SuspendedTriggers(connection: source).owed()
  }

  /// Until all is done, or the task is cancelled.
  func makeAll() async throws {
    var told = LateChanges.Left()
    while true {
      let left = try await make()
      guard !left.isEmpty else { return }
      report(left, &told)
      if left.untried == 0 { try await Task.sleep(for: .seconds(1)) }
    }
  }

  /// - Parameter told: what was reported last.
  func report(_ left: LateChanges.Left, _ told: inout LateChanges.Left) {
    guard left.obstacles.count != told.obstacles.count else { return }
    told = left
    logger.warning(
      "the \(direction.to) is open; what needs a table's lock there is done when it can be had",
      metadata: ["what": "\(left.words)"])
  }

  /// - Throws: `MigrationError` that names what is left after `limit`, and who is in the way.
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
