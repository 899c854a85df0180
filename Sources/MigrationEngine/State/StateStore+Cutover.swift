import LibPQ

/// A requested cutover.
package struct StoredCutover: Sendable {
  package enum State: String, Sendable { case requested, running, complete, aborted, rehearsed }

  package var id: Int64
  package var request: CutoverRequest
  package var state: State
  package var report: Status.Cutover?
}

extension StateStore {
  @discardableResult
  package func request(_ request: CutoverRequest) async throws -> Int64 {
    let rows = try await connection.query(
      "INSERT INTO replicate.cutover (request) VALUES ($1) RETURNING id", [try Self.encode(request)],
      doing: "requesting a cutover", within: Self.limit)
    return try rows.first?.integer("id", as: Int64.self) ?? 0
  }

  /// The newest request that waits for the engine.
  package func requestedCutover() async throws -> StoredCutover? {
    try await cutover(where: "state = 'requested' ORDER BY id DESC LIMIT 1", [])
  }

  /// The newest cutover that is or was under way.
  package func latestCutover() async throws -> StoredCutover? {
    try await cutover(where: "true ORDER BY id DESC LIMIT 1", [])
  }

  /// The newest that was completed, there or back.
  package func completedCutover() async throws -> StoredCutover? {
    try await cutover(where: "state = 'complete' ORDER BY id DESC LIMIT 1", [])
  }

  package func cutover(_ id: Int64) async throws -> StoredCutover? {
    try await cutover(where: "id = $1", [String(id)])
  }

  private func cutover(where condition: String, _ parameters: [String]) async throws -> StoredCutover? {
    let rows = try await connection.query(
      "SELECT * FROM replicate.cutover WHERE \(condition)", parameters, doing: "reading the cutover's state",
      within: Self.limit)
    return try rows.first.map { row in
      guard let state = StoredCutover.State(rawValue: try row.text("state")) else {
        throw MigrationError(
          .failed, doing: "reading the cutover's state",
          reason: "it was written by another version of replicate",
          remedy: "Use the version that began this migration.")
      }
      return StoredCutover(
        id: try row.integer("id", as: Int64.self),
        request: try Self.decode(CutoverRequest.self, try row.text("request")), state: state,
        report: try row.optional("report").map { try Self.decode(Status.Cutover.self, $0) })
    }
  }

  /// Takes back a request that no engine has begun.
  /// - Returns: false when one has.
  package func withdraw(_ id: Int64) async throws -> Bool {
    let rows = try await connection.query(
      "UPDATE replicate.cutover SET state = 'aborted' WHERE id = $1 AND state = 'requested'", [String(id)],
      doing: "withdrawing the request for a cutover", within: Self.limit)
    return rows.affected == 1
  }

  /// What finishing a cutover needs of the source, as text that only its owner reads.
  package func needs<Needs: Decodable>(of id: Int64, as type: Needs.Type) async throws -> Needs? {
    let rows = try await connection.query(
      "SELECT needs FROM replicate.cutover WHERE id = $1", [String(id)],
      doing: "reading what the cutover needs of the source", within: Self.limit)
    return try rows.first?.optional("needs").map { try Self.decode(type, $0) }
  }

  package func store(needs: some Encodable, of id: Int64) async throws {
    // Where a version before it made the table.
    try await connection.query(
      "ALTER TABLE replicate.cutover ADD COLUMN IF NOT EXISTS needs text",
      doing: "making room for what the cutover needs of the source", within: Self.limit)
    try await connection.query(
      "UPDATE replicate.cutover SET needs = $2 WHERE id = $1", [String(id), try Self.encode(needs)],
      doing: "storing what the cutover needs of the source", within: Self.limit)
  }

  /// What is told in the middle of a cutover does not bring back one that has ended.
  package func store(_ report: Status.Cutover, of id: Int64, state: StoredCutover.State) async throws {
    try await connection.query(
      """
      UPDATE replicate.cutover SET state = $2, report = $3
      WHERE id = $1 AND ($2 <> 'running' OR state IN ('requested', 'running'))
      """,
      [String(id), state.rawValue, try Self.encode(report)], doing: "storing the cutover's report",
      within: Self.limit)
  }
}
