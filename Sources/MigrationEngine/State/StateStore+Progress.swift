import LibPQ
package import LogicalReplication

/// A transaction of the end that changes come from, by which its history is known again: no other history has
/// the same transaction commit at the same place and moment.
package struct StreamAnchor: Sendable, Equatable {
  /// Where its commit record begins.
  package var commitLSN: LSN
  package var xid: UInt32
  package var commitTime: PostgresTime

  package init(commitLSN: LSN, xid: UInt32, commitTime: PostgresTime) {
    self.commitLSN = commitLSN
    self.xid = xid
    self.commitTime = commitTime
  }
}

/// Where the stream stands.
package struct StoredProgress: Sendable {
  /// The end of the last transaction that is in the target; only a commit moves it.
  package var appliedLSN: LSN
  /// That transaction; nil before the first.
  package var anchor: StreamAnchor?
  /// What may have been confirmed to the source beyond it, when there was nothing to apply.
  package var confirmedLSN: LSN
  /// Of the end that changes come from, when the stream last began; nil before that.
  package var timeline: UInt32?
  package var transactions: Int64
  package var changes: Int64

  package init(
    appliedLSN: LSN, anchor: StreamAnchor? = nil, confirmedLSN: LSN, timeline: UInt32? = nil,
    transactions: Int64 = 0, changes: Int64 = 0
  ) {
    self.appliedLSN = appliedLSN
    self.anchor = anchor
    self.confirmedLSN = confirmedLSN
    self.timeline = timeline
    self.transactions = transactions
    self.changes = changes
  }
}

extension StateStore {
  package func progress() async throws -> StoredProgress? { try await progress(locking: "") }

  /// Where the stream stands once no session is about to move it.
  package func settledProgress() async throws -> StoredProgress? {
    try await progress(locking: " FOR UPDATE OF p")
  }

  private func progress(locking: String) async throws -> StoredProgress? {
    let rows = try await connection.query(
      "SELECT p.*, c.confirmed_lsn FROM replicate.progress p CROSS JOIN replicate.confirmation c\(locking)",
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

  /// Stores where a slot that was just made begins.
  package func beginProgress(at consistentPoint: LSN) async throws {
    try await connection.transaction(doing: "storing the slot's beginning") { connection in
      for (table, column) in [("progress", "applied_lsn"), ("confirmation", "confirmed_lsn")] {
        try await connection.query(
          "INSERT INTO replicate.\(table) (\(column)) VALUES ($1)", [consistentPoint.description],
          doing: "storing the slot's beginning", within: Self.limit)
      }
    }
  }

  /// Stores what is about to be confirmed, so that a slot ahead of `appliedLSN` can be told from one that
  /// somebody else advanced.
  package func store(confirmedLSN: LSN) async throws {
    try await connection.query(
      "UPDATE replicate.confirmation SET confirmed_lsn = greatest(confirmed_lsn, $1)",
      [confirmedLSN.description],
      doing: "storing the LSN to confirm", within: .seconds(30))
  }

  /// Stores the timeline of the end that changes come from.
  package func store(timeline: UInt32) async throws {
    try await connection.query(
      "UPDATE replicate.progress SET timeline = $1", [String(timeline)],
      doing: "storing the timeline that is followed", within: Self.limit)
  }
}
