import Clusters

/// All that a migration could change on one end, to see that a refused one has changed nothing.
enum EndContents {
  /// Schema and data as pg_dump writes them, then what it leaves out.
  static func read(_ server: ConnectionString) async throws -> [String] {
    // By environment, since a program's arguments are for everyone to see.
    let dump = try await Command.check(
      ["sh", "-c", "exec \"$0\" -d \"$DUMPED\"", try PostgresPrograms.path("pg_dump")],
      environment: ["DUMPED": server.text])
    // Newer versions fence their output with a word that is random.
    let lines = dump.split(separator: "\n").map(String.init)
      .filter { !$0.hasPrefix("\\restrict ") && !$0.hasPrefix("\\unrestrict ") }
    let session = try await SQLSession(server)
    let rows = try await session.rows(
      """
      SELECT 'slot ' || slot_name FROM pg_replication_slots
      UNION ALL SELECT 'role ' || rolname FROM pg_roles
      UNION ALL SELECT 'setting ' || setdatabase || ' ' || setrole || ' ' || setconfig::text
        FROM pg_db_role_setting
      UNION ALL SELECT 'database ' || datname FROM pg_database
      UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts
      ORDER BY 1
      """)
    await session.close()
    return lines + rows.compactMap { $0.first ?? nil }
  }

  /// Waits until no session of the program is left: a backend outlives its client by a moment.
  static func waitForLastSession(on server: ConnectionString) async throws {
    let session = try await SQLSession(server)
    try await waitUntil("the end of the program's sessions", within: .seconds(10)) {
      try await session.rows(
        """
        SELECT 1 FROM pg_stat_activity
        WHERE application_name LIKE 'replicate %' AND datname = current_database()
        """
      ).isEmpty
    }
    await session.close()
  }
}
