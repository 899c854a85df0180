import LibPQ

/// A requested comparison. A cancelled one is deleted.
struct StoredVerification: Sendable {
  enum State: String, Sendable {
    /// Waits for the engine.
    case requested
    case running
    /// It was completed, whatever it found.
    case complete
    case failed
  }

  var id: Int64
  var request: VerificationRequest
  var state: State
  var report: VerificationReport?
  /// Why it failed.
  var failure: String?
  /// Whether the requester is still there.
  var isFollowed: Bool
}

extension StateStore {
  /// Spells "verify": with a request's number, the lock held by the command that follows it.
  private static let followKey: Int32 = 0x7665_7269

  /// How many finished ones are kept.
  private static let keptVerifications = 20

  /// Asks the engine to compare; the request lasts as long as this connection.
  func request(_ request: VerificationRequest) async throws -> Int64 {
    let action = "requesting a verification"
    let text = try Self.encode(request)
    return try await connection.transaction(doing: action) { connection in
      let rows = try await connection.query(
        "INSERT INTO replicate.verification (request) VALUES ($1) RETURNING id", [text], doing: action,
        within: Self.limit)
      let id = try rows.first?.integer("id", as: Int64.self) ?? 0
      try await connection.query(
        "SELECT pg_catalog.pg_advisory_lock(\(Self.followKey), $1)", [String(id)], doing: action,
        within: Self.limit)
      return id
    }
  }

  func verification(_ id: Int64) async throws -> StoredVerification? {
    try await verification(where: "id = $1", [String(id)])
  }

  /// The oldest pending one.
  func requestedVerification() async throws -> StoredVerification? {
    try await verification(where: "state = 'requested' ORDER BY id LIMIT 1", [])
  }

  /// The newest completed one of this kind.
  func lastVerification(
    where isWanted: (VerificationReport) -> Bool
  ) async throws -> VerificationReport? {
    let rows = try await connection.query(
      "SELECT report FROM replicate.verification WHERE state = 'complete' ORDER BY id DESC",
      doing: "reading the last verifications", within: Self.limit)
    return try rows.map { try Self.decode(VerificationReport.self, try $0.text("report")) }
      .first(where: isWanted)
  }

  /// Whether large objects are part of the migration: they were copied, and are not excluded now.
  func carriesLargeObjects(_ options: MigrationOptions) async throws -> Bool {
    guard !options.leavesLargeObjectsBehind else { return false }
    return try await load()?.largeObjectsHorizon != nil
  }

  private func verification(
    where condition: String, _ parameters: [String]
  ) async throws -> StoredVerification? {
    let action = "reading the state of a verification"
    let rows = try await connection.query(
      """
      SELECT v.*, EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted
        AND l.classid = \(Self.followKey) AND l.objid = v.id::oid AND l.objsubid = 2
        AND l.database =
          (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      ) AS is_followed
      FROM replicate.verification v WHERE \(condition)
      """, parameters, doing: action, within: Self.limit)
    return try rows.first.map { row in
      guard let state = StoredVerification.State(rawValue: try row.text("state")) else {
        throw MigrationError(
          .failed, doing: action, reason: "it was written by another version of replicate",
          remedy: "Use the version that began this migration.")
      }
      return StoredVerification(
        id: try row.integer("id", as: Int64.self),
        request: try Self.decode(VerificationRequest.self, try row.text("request")), state: state,
        report: try row.optional("report").map { try Self.decode(VerificationReport.self, $0) },
        failure: try row.optional("failure"), isFollowed: try row.bool("is_followed"))
    }
  }

  /// - Returns: false when it was cancelled.
  @discardableResult
  func store(
    _ state: StoredVerification.State, of id: Int64, report: VerificationReport? = nil,
    failure: String? = nil
  ) async throws -> Bool {
    let rows = try await connection.query(
      "UPDATE replicate.verification SET state = $2, report = $3, failure = $4 WHERE id = $1",
      [String(id), state.rawValue, try report.map { try Self.encode($0) }, failure],
      doing: "storing the state of a verification", within: Self.limit)
    return rows.affected == 1
  }

  /// Keeps a report that nobody requested.
  func keep(_ report: VerificationReport, requestedBy: String) async throws {
    try await connection.query(
      "INSERT INTO replicate.verification (request, state, report) VALUES ($1, 'complete', $2)",
      [try Self.encode(VerificationRequest(requestedBy: requestedBy)), try Self.encode(report)],
      doing: "storing what was compared", within: Self.limit)
  }

  /// Without a trace.
  func cancelVerification(_ id: Int64) async throws {
    try await connection.query(
      "DELETE FROM replicate.verification WHERE id = $1 AND state IN ('requested', 'running')",
      [String(id)], doing: "cancelling a verification", within: Self.limit)
  }

  /// Deletes those that an earlier engine had begun, and the oldest.
  func forgetVerifications() async throws {
    try await connection.query(
      """
      UPDATE replicate.verification SET state = 'failed', failure = 'the engine ended in the middle of it'
      WHERE state = 'running';
      DELETE FROM replicate.verification WHERE state IN ('complete', 'failed') AND id NOT IN (
        SELECT id FROM replicate.verification WHERE state IN ('complete', 'failed')
        ORDER BY id DESC LIMIT \(Self.keptVerifications))
      """, doing: "forgetting old verifications", within: Self.limit)
  }
}
