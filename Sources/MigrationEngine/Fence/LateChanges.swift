import LibPQ

/// Makes late changes in short tries, each on its own: where a lock is not available at once it is retried
/// later, and sessions that queue behind the try wait only a moment.
struct LateChanges: Sendable {
  let connection: Connection
  /// Statements that begin and end every transaction.
  var quieting: (before: [String], after: [String]) = ([], [])

  /// What could not be done yet.
  struct Left: Sendable, Equatable {
    /// Each with what is in the way.
    var obstacles: [String] = []
    var untried = 0

    var isEmpty: Bool { obstacles.isEmpty && untried == 0 }
    var words: String {
      let named = obstacles.prefix(3).joined(separator: "\n  ")
      let others = obstacles.dropFirst(3).count + untried
      return others == 0 ? named : "\(named)\(named.isEmpty ? "" : "\n  and ")\(others) more"
    }
  }

  /// - Parameter limit: after which the rest is left for later.
  func make(_ changes: [LateChange], within limit: Duration) async throws -> Left {
    let deadline = ContinuousClock.now + limit
    var left = Left()
    for change in changes {
      guard ContinuousClock.now < deadline else {
        left.untried += 1
        continue
      }
      do {
        try await LockRetry.execute(
          quiet(change.statement), on: connection, doing: change.action, within: .zero)
      } catch let error as PostgresError
        where [.lockNotAvailable, .deadlockDetected].contains(error.sqlState)
      {
        let holders = try await Writers(connection).using(change.table)
        left.obstacles.append("\(change.action): the table is in use by \(Writers.list(holders))")
      } catch let error as PostgresError
        where [.undefinedTable, .undefinedColumn, .undefinedObject].contains(error.sqlState)
      {
        // The table was dropped since we looked.
        continue
      }
    }
    return left
  }

  func quiet(_ statement: String) -> String {
    (quieting.before + [statement] + quieting.after).joined(separator: ";\n")
  }

  /// Calls `make` until nothing is left.
  /// - Throws: `MigrationError` that names what is left after `limit`, and what is in the way.
  static func insist(
    doing action: String, within limit: Duration, isolation: isolated (any Actor)? = #isolation,
    _ make: (Duration) async throws -> Left
  ) async throws {
    let deadline = ContinuousClock.now + limit
    while true {
      let left = try await make(max(.seconds(1), deadline - .now))
      if left.isEmpty { return }
      guard ContinuousClock.now < deadline else {
        throw MigrationError(
          .failed, doing: action, reason: left.words,
          remedy: "Wait until those transactions have ended, or end them; then give the command again.")
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }
}
