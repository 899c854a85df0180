import LibPQ
import LogicalReplication

/// A transaction of the end that changes come from, which identifies its history: in no other history does
/// the same transaction commit at the same LSN and time.
struct StreamAnchor: Sendable, Equatable {
  /// Where its commit record begins.
  var commitLSN: LSN
  var xid: UInt32
  var commitTime: PostgresTime
}

/// Where the stream stands.
struct StoredProgress: Sendable {
  /// The end of the last transaction on the target; only a commit moves it.
  var appliedLSN: LSN
  /// That transaction; nil before the first.
  var anchor: StreamAnchor?
  /// What may have been confirmed to the source after it, when there was nothing to apply.
  var confirmedLSN: LSN
  /// The timeline of the end that changes come from, when the stream last began; nil before that.
  var timeline: UInt32?
  var transactions: Int64 = 0
  var changes: Int64 = 0
}

extension StateStore {
  /// On the source, which may have subscribers, it is kept as noted rows; the target's is in a table of ours.
  private var isNoted: Bool { connection.end == Direction.back.to }

  func progress() async throws -> StoredProgress? { try await progress(locking: "") }

  /// The position of the stream once no session is about to move it.
  func settledProgress() async throws -> StoredProgress? {
    guard isNoted else { return try await progress(locking: " FOR UPDATE OF p") }
    // The session that held it has committed.
    try await connection.query(
      NotedRows.progress.lock, doing: "waiting for what moves the stream's progress", within: Self.limit)
    return try await progress(locking: "")
  }

  private func progress(locking: String) async throws -> StoredProgress? {
    let (position, confirmation) =
      isNoted
      ? (NotedRows.progress.relation, NotedRows.confirmation.relation)
      : ("replicate.progress", "replicate.confirmation")
    let rows = try await connection.query(
      "SELECT p.*, c.confirmed_lsn FROM \(position) p CROSS JOIN \(confirmation) c\(locking)",
      doing: "reading the stream's progress", within: Self.limit)
    guard let row = rows.first else { return nil }
    guard let applied = LSN(try row.text("applied_lsn")), let confirmed = LSN(try row.text("confirmed_lsn"))
    else {
      throw MigrationError(
        .failed, doing: "reading the stream's progress", reason: "replicate.progress holds no usable LSN")
    }
    var progress = StoredProgress(
      appliedLSN: applied, confirmedLSN: confirmed,
      timeline: try row.optional("timeline").flatMap(UInt32.init),
      transactions: try row.integer("transactions", as: Int64.self),
      changes: try row.integer("changes", as: Int64.self))
    if let commit = try row.optional("anchor_lsn").flatMap(LSN.init),
      let xid = try row.optional("anchor_xid").flatMap(UInt32.init),
      let time = try row.optional("anchor_time").flatMap(Int64.init)
    {
      progress.anchor = StreamAnchor(
        commitLSN: commit, xid: xid, commitTime: PostgresTime(microseconds: time))
    }
    return progress
  }

  /// Stores where a newly created slot begins.
  func beginProgress(at consistentPoint: LSN) async throws {
    let action = "storing the slot's beginning"
    let isNoted = isNoted
    try await connection.transaction(doing: action) { connection in
      let statements =
        isNoted
        ? [
          "SELECT "
            + NotedRows.progress.replacement(
              by: """
                pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('applied_lsn', $1::text,
                  'transactions', 0, 'changes', 0, 'marker', ''))
                """),
          "SELECT "
            + NotedRows.confirmation.replacement(
              by: "pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('confirmed_lsn', $1::text))"),
        ]
        : [
          "INSERT INTO replicate.progress (applied_lsn) VALUES ($1)",
          "INSERT INTO replicate.confirmation (confirmed_lsn) VALUES ($1)",
        ]
      for statement in statements {
        try await connection.query(
          statement, [consistentPoint.description], doing: action, within: Self.limit)
      }
    }
  }

  /// Stores what is about to be confirmed, so that a slot ahead of `appliedLSN` can be distinguished from one
  /// that somebody else advanced.
  func store(confirmedLSN: LSN) async throws {
    let noted = NotedRows.confirmation.replacement(
      by: """
        pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('confirmed_lsn',
          greatest(confirmed_lsn, $1::pg_lsn)))
        """)
    try await connection.query(
      isNoted
        ? "SELECT \(noted) FROM \(NotedRows.confirmation.relation)"
        : "UPDATE replicate.confirmation SET confirmed_lsn = greatest(confirmed_lsn, $1)",
      [confirmedLSN.description], doing: "storing the LSN to confirm", within: .seconds(30))
  }

  /// Stores the timeline of the end that changes come from.
  func store(timeline: UInt32) async throws {
    let action = "storing the timeline that is followed"
    guard isNoted else {
      try await connection.query(
        "UPDATE replicate.progress SET timeline = $1", [String(timeline)], doing: action, within: Self.limit)
      return
    }
    try await connection.transaction(doing: action) { connection in
      try await connection.query(NotedRows.progress.lock, doing: action, within: Self.limit)
      let noted = NotedRows.progress.replacement(
        by: """
          pg_catalog.jsonb_build_array(pg_catalog.to_jsonb(p) ||
            pg_catalog.jsonb_build_object('timeline', $1::bigint))
          """)
      try await connection.query(
        "SELECT \(noted) FROM \(NotedRows.progress.relation) p", [String(timeline)], doing: action,
        within: Self.limit)
    }
  }
}

extension NotedRows {
  /// Moves a stream's progress: `$1` the new position, `$5` the previous one, `$2` and `$3` how many
  /// transactions and changes came, `$4` a marker or null, `$6` to `$8` the anchor. Fails with a division by
  /// zero where the position has changed. Must follow `lock`.
  static let movedProgress = """
    WITH moved AS (
      SELECT \(progress.replacement(by: """
        pg_catalog.jsonb_build_array(pg_catalog.to_jsonb(p) || pg_catalog.jsonb_build_object(
          'applied_lsn', $1::text, 'transactions', transactions OPERATOR(pg_catalog.+) $2::bigint,
          'changes', changes OPERATOR(pg_catalog.+) $3::bigint, 'marker', coalesce($4::text, marker),
          'anchor_lsn', $6::text, 'anchor_xid', $7::bigint, 'anchor_time', $8::bigint))
        """)) AS is_noted FROM \(progress.relation) p
      WHERE applied_lsn OPERATOR(pg_catalog.=) $5::pg_lsn)
    SELECT 1 OPERATOR(pg_catalog./) pg_catalog.count(is_noted) FROM moved
    """
}
