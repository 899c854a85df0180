import Clusters

@testable import LibPQ
@testable import MigrationEngine

/// A statement, in a session of its own.
struct Attempt: Sendable, CustomStringConvertible {
  let sql: String
  let settings: [String: String]
  let role: String?

  init(_ sql: String, settings: [String: String] = [:], role: String? = nil) {
    self.sql = sql
    self.settings = settings
    self.role = role
  }

  var description: String {
    [role, settings.isEmpty ? nil : "\(settings)", sql].compactMap { $0 }.joined(separator: " ")
  }
}

/// Tests of the fence alone: no engine, but sessions of the source that work it.
extension Scene {
  /// Runs `body` with a fresh pair of databases, the source with the fence's state.
  /// - Parameter pair: other servers than the suite's.
  static func fenced(
    _ name: String, on pair: ClusterPair? = nil, isolation: isolated (any Actor)? = #isolation,
    _ body: (Scene) async throws -> Void
  ) async throws {
    try await run(name, on: pair) { scene in
      try await SourceState(scene.connection(.source)).create()
      try await body(scene)
    }
    // Roles belong to the server, and it may be one that was given.
    try await SQLSession.run(
      ["DROP ROLE IF EXISTS powerless_writer"], on: ClusterPair.shared.source)
  }

  var writeFence: WriteFence { get async throws { WriteFence(try await connection(.source)) } }
  var writers: Writers { get async throws { Writers(try await connection(.source)) } }
  var fenceState: SourceState.Fence? {
    get async throws { try await SourceState(connection(.source)).fence() }
  }
  /// Looks on while the first session is busy.
  var onlooker: LibPQ.Connection { get async throws { try await connection(.source, "onlooker") } }

  /// Tables of every kind that can be written to, and a role that may write to one and owns nothing.
  func createWritableTables() async throws {
    try await source(
      "CREATE TABLE keyed (id int PRIMARY KEY, v int)",
      "INSERT INTO keyed SELECT i, i FROM generate_series(1, 20) i",
      "CREATE TABLE parted (id int) PARTITION BY LIST (id)",
      "CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN (1)",
      "CREATE TABLE child (extra int) INHERITS (keyed)",
      "CREATE UNLOGGED TABLE volatile (n int)", "CREATE TABLE \"Odd % \"\"n\"\" ame\" (id int)",
      "CREATE SEQUENCE counter", "CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM keyed",
      "CREATE FUNCTION change() RETURNS void LANGUAGE sql AS 'UPDATE public.keyed SET v = 5'",
      """
      CREATE FUNCTION change_as_owner() RETURNS void LANGUAGE sql SECURITY DEFINER
        AS 'SELECT public.change()'
      """,
      "CREATE VIEW keyed_view AS SELECT * FROM keyed WHERE id > 0", "CREATE EXTENSION dblink",
      """
      DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'powerless_writer') THEN
          CREATE ROLE powerless_writer;
        END IF;
      END $$
      """,
      "GRANT SELECT, INSERT, UPDATE, DELETE ON keyed TO powerless_writer")
  }

  /// As `PGOPTIONS` of a client does it.
  func writeThroughOptions() async throws {
    let session = try await SQLSession(
      databases.source.with([
        "options": "-c default_transaction_read_only=off -c session_replication_role=replica"
      ]))
    defer { Task { await session.close() } }
    try await session.execute("UPDATE keyed SET v = 1")
  }

  /// By a session that the server opens with itself.
  func writeThroughItself() async throws {
    try await source(
      "SELECT dblink_exec(\(quotedLiteral(databases.source.text)), 'UPDATE public.keyed SET v = 1')")
  }

  /// A session of the source that has run these statements and is left as they left it.
  func session(_ statements: String...) async throws -> SQLSession {
    let session = try await SQLSession(databases.source)
    for sql in statements { try await session.execute(sql) }
    return session
  }

  /// Waits until the first session has seen who is under way and waits for them.
  func waitUntilWaiting() async throws {
    try await Clusters.waitUntil("the wait for writers", within: .seconds(10)) {
      try await sourceValue(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%virtualtransaction = ANY%'"
          + " AND datname = current_database() AND pid <> pg_backend_pid()") == "1"
    }
  }

  /// The SQLSTATE an attempt is refused with; nil when it is not.
  func refusal(of attempt: Attempt) async throws -> String? {
    let role = attempt.role.map { ["SET ROLE \($0)"] } ?? []
    return try await SQLSession.refusal(
      of: role + attempt.sql.split(separator: "; ").map(String.init), on: databases.source,
      settings: attempt.settings)
  }
}
