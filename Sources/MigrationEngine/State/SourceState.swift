import LibPQ

/// The fence's state in schema `replicate` of an end, and what must be restored there: on the source when the
/// migration is aborted, on the target when reverse replication ends.
struct SourceState: Sendable {
  /// The state of the fence. One row, changed in the same transaction as the fence itself.
  enum Fence: String, Sendable {
    /// The fence, if there is one, lets everything pass.
    case open
    /// The fence refuses writes until it expires.
    case fenced
    /// The fence refuses writes for good: the point of no return has been passed.
    case sealed
  }

  let connection: Connection

  init(_ connection: Connection) { self.connection = connection }

  func create() async throws {
    try await connection.query(
      """
      CREATE SCHEMA IF NOT EXISTS replicate;
      COMMENT ON SCHEMA replicate IS 'Fence of a migration by replicate; dropped by replicate abort.'
      """, doing: "creating schema replicate on the \(connection.end)", within: .seconds(30))
    try await createTables()
  }

  /// In an existing schema: the target's.
  func createTables() async throws {
    let action = "creating the fence's state on the \(connection.end)"
    try await connection.transaction(doing: action) { connection in
      for creation in [NotedRows.fence.creation, NotedRows.identity.creation, NotedRows.fence.lock] {
        try await connection.query(creation, doing: action, within: .seconds(30))
      }
      let open = NotedRows.fence.replacement(by: "'[{\"state\": \"open\"}]'")
      try await connection.query(
        "SELECT \(open) WHERE NOT EXISTS (SELECT FROM replicate.fence())", doing: action, within: .seconds(30)
      )
    }
  }

  /// Nil when the end has no fence of ours.
  /// - Throws: `MigrationError` when the state of the fence is not known.
  func fence() async throws -> Fence? {
    let action = "looking for a fence on the \(connection.end)"
    guard try await NotedRows.fence.exist(on: connection, doing: action) else { return nil }
    let rows = try await connection.query(
      "SELECT state FROM replicate.fence()", doing: "reading the fence's state", within: .seconds(15))
    guard let fence = try rows.first.flatMap({ Fence(rawValue: try $0.text("state")) }) else {
      throw MigrationError(
        .failed, doing: "reading the fence's state",
        reason: "replicate.fence on the \(connection.end) does not say it",
        remedy:
          "Use the version of replicate that began this migration, or drop schema replicate on the source.")
    }
    return fence
  }
}
