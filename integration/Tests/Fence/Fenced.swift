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

/// A source of its own with the fence's state, and a connection that works the fence.
struct Fenced: Sendable {
  let source: Clusters.ConnectionString
  let connection: LibPQ.Connection
  /// A second one, to look on while the first is busy.
  let observer: LibPQ.Connection

  static func run(_ name: String, _ body: @Sendable (Fenced) async throws -> Void) async throws {
    try await ClusterPair.shared.withFreshDatabases(named: name) { databases in
      try await run(on: databases.source, body)
    }
    // Roles belong to the server, and it may be one that was given.
    let server = try await SQLSession(ClusterPair.shared.source)
    try await server.execute("DROP ROLE IF EXISTS powerless_writer")
    await server.close()
  }

  /// On a database that the caller has made.
  static func run(
    on source: Clusters.ConnectionString, isolation: isolated (any Actor)? = #isolation,
    _ body: (Fenced) async throws -> Void
  ) async throws {
    let string = try LibPQ.ConnectionString(source.text, for: "source")
    let connection = try await Session.open(string, end: "source", purpose: "test")
    let observer = try await Session.open(string, end: "source", purpose: "test")
    try await SourceState(connection).create()
    try await body(Fenced(source: source, connection: connection, observer: observer))
    await connection.close()
    await observer.close()
  }

  /// Tables of every kind that can be written to, and a role that may write to one and owns nothing.
  func prepare() async throws {
    try await execute(
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

  func execute(_ statements: String...) async throws {
    try await SQLSession.run(statements, on: source)
  }

  /// As `PGOPTIONS` of a client does it.
  func writeThroughOptions() async throws {
    let session = try await SQLSession(
      source.with(["options": "-c default_transaction_read_only=off -c session_replication_role=replica"]))
    defer { Task { await session.close() } }
    try await session.execute("UPDATE keyed SET v = 1")
  }

  /// By a session that the server opens with itself.
  func writeThroughItself() async throws {
    try await execute(
      "SELECT dblink_exec(\(quotedLiteral(source.text)), 'UPDATE public.keyed SET v = 1')")
  }

  /// Runs `body` with other settings of the server.
  func withSettings(_ settings: [String: String], _ body: () async throws -> Void) async throws {
    for (name, value) in settings { try await execute("ALTER SYSTEM SET \(name) = \(quotedLiteral(value))") }
    try await execute("SELECT pg_reload_conf()")
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    for name in settings.keys { try await execute("ALTER SYSTEM RESET \(name)") }
    try await execute("SELECT pg_reload_conf()")
    try result.get()
  }

  /// A session that has run these statements and is left as they left it.
  func session(_ statements: String...) async throws -> SQLSession {
    let session = try await SQLSession(source)
    for sql in statements { try await session.execute(sql) }
    return session
  }

  /// Waits until `connection` has seen who is under way and waits for them.
  func waitUntilWaiting() async throws {
    try await waitUntil("the wait for writers", within: .seconds(10)) {
      try await value(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%virtualtransaction = ANY%'"
          + " AND datname = current_database() AND pid <> pg_backend_pid()") == "1"
    }
  }

  func value(_ sql: String) async throws -> String? {
    try await SQLSession.value(sql, on: source)
  }

  /// The SQLSTATE an attempt is refused with; nil when it is not.
  func refusal(of attempt: Attempt) async throws -> String? {
    let role = attempt.role.map { ["SET ROLE \($0)"] } ?? []
    return try await SQLSession.refusal(
      of: role + attempt.sql.split(separator: "; ").map(String.init), on: source, settings: attempt.settings)
  }
}
