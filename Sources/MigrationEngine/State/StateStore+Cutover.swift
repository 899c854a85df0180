import LibPQ

/// A requested cutover.
struct StoredCutover: Sendable {
  enum State: String, Sendable { case requested, running, complete, aborted, rehearsed }

  var id: Int64
  var request: CutoverRequest
  var state: State
  var report: Status.Cutover?
}

/// How a cutover ended, and what follows.
struct CutoverEnd: Sendable {
  var id: Int64
  var report: Status.Cutover
  var state: StoredCutover.State
  /// Nil when the migration's phase stays as it is.
  var phase: Phase?
}

extension StateStore {
  /// The result of a request.
  enum Admission: Sendable {
    case new(StoredCutover)
    /// Nothing was stored: this one was already requested, or is in progress.
    case underWay(StoredCutover)
    /// Nothing was stored: the migration is in this phase.
    case refused(Phase)
  }

  /// Requests a cutover, unless one is requested or in progress.
  /// - Parameter phases: those in which it may be requested.
  @discardableResult
  func request(_ request: CutoverRequest, in phases: [Phase]) async throws -> Admission {
    let action = "requesting a cutover"
    let text = try Self.encode(request)
    return try await connection.transaction(doing: action) { connection in
      // Concurrent requests are serialised, also with the end of a running cutover.
      try await connection.query(
        "LOCK TABLE replicate.cutover IN SHARE ROW EXCLUSIVE MODE", doing: action, within: Self.limit)
      let rows = try await connection.query(
        "SELECT phase FROM replicate.migration", doing: action, within: Self.limit)
      let phase = try rows.first.flatMap { Phase(rawValue: try $0.text("phase")) } ?? .failed
      // In a final phase, a request made at the last moment is withdrawn.
      if ![.complete, .aborted].contains(phase),
        let cutover = try await Self.cutover(where: Self.isUnderWay, [], on: connection)
      {
        return .underWay(cutover)
      }
      guard phases.contains(phase) else { return .refused(phase) }
      let new = try await connection.query(
        "INSERT INTO replicate.cutover (request) VALUES ($1) RETURNING id", [text], doing: action,
        within: Self.limit)
      let id = try new.first?.integer("id", as: Int64.self) ?? 0
      return .new(StoredCutover(id: id, request: request, state: .requested, report: nil))
    }
  }

  private static let isUnderWay =
    "state IN ('requested', 'running') ORDER BY state = 'running' DESC, id DESC LIMIT 1"

  /// The running cutover, else the newest pending request.
  func cutoverUnderWay() async throws -> StoredCutover? { try await cutover(where: Self.isUnderWay) }

  /// The newest pending request.
  func requestedCutover() async throws -> StoredCutover? {
    try await cutover(where: "state = 'requested' ORDER BY id DESC LIMIT 1")
  }

  /// The running cutover, else the newest that ran; a pending request hides neither.
  func latestCutover() async throws -> StoredCutover? {
    try await cutover(where: "state <> 'requested' ORDER BY state = 'running' DESC, id DESC LIMIT 1")
  }

  /// The newest that was completed, there or back.
  func completedCutover() async throws -> StoredCutover? {
    try await cutover(where: "state = 'complete' ORDER BY id DESC LIMIT 1")
  }

  /// The newest that was completed in one direction.
  func completedCutover(_ direction: Direction) async throws -> StoredCutover? {
    let isBack = direction == .back ? "" : "NOT "
    return try await cutover(
      where: """
        state = 'complete' AND \(isBack)COALESCE(request::pg_catalog.jsonb->>'direction' = 'back', false)
        ORDER BY id DESC LIMIT 1
        """)
  }

  func cutover(_ id: Int64) async throws -> StoredCutover? {
    try await cutover(where: "id = $1", [String(id)])
  }

  private func cutover(where condition: String, _ parameters: [String] = []) async throws -> StoredCutover? {
    try await Self.cutover(where: condition, parameters, on: connection)
  }

  private static func cutover(
    where condition: String, _ parameters: [String], on connection: isolated Connection
  ) async throws -> StoredCutover? {
    let rows = try await connection.query(
      "SELECT * FROM replicate.cutover WHERE \(condition)", parameters, doing: "reading the cutover's state",
      within: limit)
    return try rows.first.map { row in
      guard let state = StoredCutover.State(rawValue: try row.text("state")) else {
        throw MigrationError(
          .failed, doing: "reading the cutover's state",
          reason: "it was written by another version of replicate",
          remedy: "Use the version that began this migration.")
      }
      return StoredCutover(
        id: try row.integer("id", as: Int64.self),
        request: try decode(CutoverRequest.self, try row.text("request")), state: state,
        report: try row.optional("report").map { try decode(Status.Cutover.self, $0) })
    }
  }

  /// Withdraws a request that no engine has begun.
  /// - Returns: false when one has.
  func withdraw(_ id: Int64) async throws -> Bool {
    let rows = try await connection.query(
      "UPDATE replicate.cutover SET state = 'aborted' WHERE id = $1 AND state = 'requested'", [String(id)],
      doing: "withdrawing the request for a cutover", within: Self.limit)
    return rows.affected == 1
  }

  /// In one commit, so that no engine finds the end without the phase, or the phase without the end.
  /// - Returns: false when the cutover is no longer running: nothing was stored.
  func store(_ end: CutoverEnd) async throws -> Bool {
    let rows = try await connection.query(
      """
      WITH ended AS (UPDATE replicate.cutover SET state = $2, report = $3
          WHERE id = $1 AND state = 'running' RETURNING id),
        moved AS (UPDATE replicate.migration SET phase = $4::text, failure = NULL
          WHERE $4::text IS NOT NULL AND EXISTS (SELECT FROM ended) RETURNING phase),
        noted AS (INSERT INTO replicate.event (what) SELECT 'phase ' || phase FROM moved)
      SELECT id FROM ended
      """, [String(end.id), end.state.rawValue, try Self.encode(end.report), end.phase?.rawValue],
      doing: "storing how the cutover ended", within: Self.limit)
    return rows.first != nil
  }

  /// What finishing a cutover needs to know about the source, as text that only its owner reads.
  func needs<Needs: Decodable>(of id: Int64, as type: Needs.Type) async throws -> Needs? {
    let rows = try await connection.query(
      "SELECT needs FROM replicate.cutover WHERE id = $1", [String(id)],
      doing: "reading what the cutover needs of the source", within: Self.limit)
    return try rows.first?.optional("needs").map { try Self.decode(type, $0) }
  }

  func store(needs: some Encodable, of id: Int64) async throws {
    // Where an older version created the table.
    try await connection.query(
      "ALTER TABLE replicate.cutover ADD COLUMN IF NOT EXISTS needs text",
      doing: "making room for what the cutover needs of the source", within: Self.limit)
    try await connection.query(
      "UPDATE replicate.cutover SET needs = $2 WHERE id = $1", [String(id), try Self.encode(needs)],
      doing: "storing what the cutover needs of the source", within: Self.limit)
  }

  /// A report in the middle of a cutover does not revive one that has ended.
  func store(_ report: Status.Cutover, of id: Int64, state: StoredCutover.State) async throws {
    try await connection.query(
      """
      UPDATE replicate.cutover SET state = $2, report = $3
      WHERE id = $1 AND ($2 <> 'running' OR state IN ('requested', 'running'))
      """,
      [String(id), state.rawValue, try Self.encode(report)], doing: "storing the cutover's report",
      within: Self.limit)
  }
}
