import LibPQ

/// Runs DDL that waits for a table lock in short tries: while a try waits, every later writer queues behind
/// it, so no try may take long (manual, section 20.11 `lock_timeout`).
enum LockRetry {
  /// Autovacuum gives up its lock to a session that has waited for `deadlock_timeout` (manual, section
  /// 25.1.6), which by default is longer than a try, and which only a superuser may shorten.
  private static func settings(_ tryLimitMilliseconds: Int) -> String {
    """
    SELECT pg_catalog.set_config('lock_timeout', '\(tryLimitMilliseconds)', true),
      CASE WHEN pg_catalog.current_setting('is_superuser') = 'on'
        THEN pg_catalog.set_config('deadlock_timeout', '\(max(1, tryLimitMilliseconds / 4))', true) END
    """
  }

  /// - Parameters:
  ///   - limit: for all tries together; nil: wait as long as it takes, which is reported.
  ///   - tryLimit: how long one try may hold up others, in milliseconds.
  /// - Throws: the last try's error, with SQLSTATE 55P03, when the limit has passed.
  static func execute(
    _ sql: String, on connection: Connection, doing action: String, within limit: Duration?,
    tryLimitMilliseconds: Int = 200
  ) async throws {
    let deadline = limit.map { ContinuousClock.now + $0 }
    while true {
      do {
        try await connection.transaction(doing: action) { connection in
          try await connection.query(settings(tryLimitMilliseconds), doing: action)
          try await connection.query(sql, doing: action)
        }
        return
      } catch let error as PostgresError
        where [.lockNotAvailable, .deadlockDetected].contains(error.sqlState)
        && deadline.map({ ContinuousClock.now < $0 }) ?? true
      {
        // Lets writers through that queued behind this try.
        try await Task.sleep(for: .milliseconds(100))
      }
    }
  }
}

extension Connection {
  /// Runs `body` in its own transaction and rolls it back: what would be refused is refused.
  func undoing(
    _ action: String, _ body: @Sendable (isolated Connection) async throws -> Void
  ) async throws {
    try await query("BEGIN", doing: action, within: .seconds(15))
    do {
      try await body(self)
    } catch {
      rollback()
      throw error
    }
    try await query("ROLLBACK", doing: action, within: .seconds(15))
  }
}
