import LibPQ

extension Preflight {
  /// Rows that the source's foreign keys forbid keep pg_restore from making those on the target. Which keys
  /// have some the catalogs do not show, so some rows of each table are looked up.
  enum ForeignKeyRows {
    /// Of a table.
    static let rowCount = 10_000
    /// For one key, and for all.
    private static let limit = Duration.seconds(2)
    private static let patience = Duration.seconds(20)
    private static let action = "looking for rows that reference none"

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let migrated = Set(context.migrated.map(\.name))
      // Users' operators may do more than compare, and only their owner should run them.
      let keys = try await DanglingRows.read(nil, from: context.source, doing: action).filter {
        migrated.contains($0.childName) && $0.isBuiltIn
      }
      let deadline = ContinuousClock.now + patience
      var findings: [Finding] = []
      for (index, key) in keys.enumerated() {
        guard .now < deadline else {
          findings.append(notTried(keys.count - index))
          break
        }
        if let rows = try await rows(of: key, on: context.source) { findings.append(finding(key, rows)) }
      }
      return findings
    }

    private static func rows(of key: DanglingRows, on source: Connection) async throws -> String? {
      do {
        try await source.query(
          """
          BEGIN READ ONLY; SET LOCAL statement_timeout = \(Int(limit / .milliseconds(1))); \
          \(Session.readingTablesOnly)
          """, doing: action, within: .seconds(15))
        let rows = try await key.describe(on: source, sample: rowCount, doing: action, within: .seconds(15))
        await source.rollback()
        return rows
      } catch let error as PostgresError where error.sqlState != nil && !error.isConnectionLoss {
        // Too slow, or not ours to read: other checks report the latter.
        await source.rollback()
        return nil
      }
    }

    private static func finding(_ key: DanglingRows, _ rows: String) -> Finding {
      Finding(
        .warning, check: "foreign_key_rows", object: "table \(key.childName)",
        why: """
          Of its first \(rowCount) rows, \(rows): the target cannot make \(key.key), so the migration \
          goes on without it, and a cutover is refused.
          """,
        remedy: """
          Mend or delete them on the source; \(key.listing) lists all. Or accept it, and the target has it \
          NOT VALID, for rows to come: replicate cutover --accept-difference \(SQL.shellQuoted(key.key))
          """)
    }

    private static func notTried(_ count: Int) -> Finding {
      Finding(
        .note, check: "foreign_key_rows", object: "source",
        why: """
          Whether rows reference none was not looked at for \(count) of the foreign keys, since it took \
          longer than \(Int(patience / .seconds(1))) s.
          """,
        remedy: "The migration names a key that the target cannot make, and goes on without it.")
    }
  }
}
