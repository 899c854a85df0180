import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What takes the lock of a table, which readers and VACUUM keep for as long as they like, is done while
/// both ends are open.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(3)))
struct LateChangeTests {
  private static let tables = [
    "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)",
    "CREATE TABLE log (n serial PRIMARY KEY, what text)",
    """
    CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql
      AS 'BEGIN INSERT INTO public.log (what) VALUES (TG_NAME); RETURN NULL; END'
    """,
    "CREATE TRIGGER always AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION logs()",
    "ALTER TABLE t ENABLE ALWAYS TRIGGER always",
    "CREATE TRIGGER replica AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION logs()",
    "ALTER TABLE t ENABLE REPLICA TRIGGER replica",
    "CREATE RULE nothing AS ON DELETE TO log DO INSTEAD NOTHING",
    "ALTER TABLE log ENABLE ALWAYS RULE nothing", "INSERT INTO t (v) VALUES (1)",
  ]

  /// Identity column, triggers, rule, and triggers of ours.
  private static let definitions = """
    SELECT (SELECT attidentity::text FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'id')
      || (SELECT string_agg(tgenabled::text, '' ORDER BY tgname) FROM pg_trigger
        WHERE tgname IN ('always', 'replica'))
      || (SELECT ev_enabled::text FROM pg_rewrite WHERE rulename = 'nothing')
      || (SELECT count(*) FROM pg_trigger WHERE tgname = 'replicate_closed')
    """

  /// Sessions that keep the locks of `SELECT` on all tables.
  private func readers(_ server: Clusters.ConnectionString) async throws -> [SQLSession] {
    try await holding(["SELECT FROM t", "SELECT FROM log"], server)
  }

  /// And that of `VACUUM` on one.
  private func readersAndVacuum(_ server: Clusters.ConnectionString) async throws -> [SQLSession] {
    try await readers(server) + holding(["LOCK TABLE log IN SHARE UPDATE EXCLUSIVE MODE"], server)
  }

  private func holding(_ locks: [String], _ server: Clusters.ConnectionString) async throws -> [SQLSession] {
    var sessions: [SQLSession] = []
    for lock in locks {
      let session = try await SQLSession(server)
      try await session.execute("BEGIN")
      try await session.execute(lock)
      sessions.append(session)
    }
    return sessions
  }

  private func end(_ sessions: [SQLSession]) async throws {
    for session in sessions {
      try await session.execute("ROLLBACK")
      await session.close()
    }
  }

  @Test("Readers of the target delay neither cutover nor rehearsal; what needs their tables follows")
  func cutover() async throws {
    try await Scene.run("latechanges") { scene in
      for sql in Self.tables { try await scene.source(sql) }
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let sessions = try await readersAndVacuum(scene.databases.target)
      for options in [["--dry-run"], []] {
        try await scene.waitUntilReady(engine)
        let cutover = try await scene.replicate.run(
          ["cutover", "--yes", "--max-pause", "5s", "--timeout", "10s"] + options)
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
        #expect(try #require(try await scene.status().cutover?.writePauseSeconds) < 2)
      }
      try await scene.target("INSERT INTO t (v) VALUES (2)")
      #expect(try await scene.targetValue("SELECT string_agg(what, ',') FROM log") == "always,always")
      try await engine.waitUntil("a word on who is in the way", within: .seconds(20)) {
        engine.errors.contains("the table is in use by pid")
      }
      #expect(engine.isRunning)
      #expect(try await scene.targetValue(Self.definitions) != "aARA0")
      try await end(sessions)
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await scene.targetValue(Self.definitions) == "aARA0")
      #expect(
        try await scene.refusal(
          of: "INSERT INTO t (id, v) VALUES (9, 9)", on: scene.databases.target) == "428C9")
    }
  }

  @Test("A reader of what must be written anew after the fence keeps the cutover from beginning, by name")
  func unlogged() async throws {
    try await Scene.run("unloggedreader") { scene in
      try await scene.source("CREATE UNLOGGED TABLE cache (id int)", "INSERT INTO cache VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let sessions = try await holding(["SELECT FROM cache"], scene.databases.target)
      for options in [["--dry-run"], []] {
        let refused = try await scene.replicate.run(["cutover", "--yes"] + options)
        #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
        #expect(refused.errors.contains("\"cache\" is in use by pid"), "\(refused.errors)")
        #expect(try await scene.status().cutover?.writePauseSeconds == nil, "nobody was kept waiting")
      }
      try await end(sessions)
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("Readers of either end delay reverse replication by no more than they must, and are named")
  func reverseReplication() async throws {
    try await Scene.run("latereverse") { scene in
      for sql in Self.tables { try await scene.source(sql) }
      let engine = try await scene.start(reverse: true)
      try await scene.waitUntilReady(engine)
      let ofSource = try await readers(scene.databases.source)
      let sessions = try await readers(scene.databases.target)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await scene.waitUntil("reverse replication that waits for a reader", engine, within: .seconds(20)) {
        $0.stream.waitsFor?.contains("the table is in use by pid") == true
      }
      try await end(ofSource)
      try await scene.waitUntil("the reverse stream", engine) { $0.phase == .reverse && $0.ready }
      try await scene.target("UPDATE t SET v = 3", "INSERT INTO t (v) VALUES (4)")
      try await end(sessions)
      try await engine.waitUntil("what was owed", within: .seconds(30)) {
        try await scene.targetValue(Self.definitions) == "aARA0"
      }
      let again = try await readers(scene.databases.source)
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      try await scene.source("INSERT INTO t (v) VALUES (5)")
      try await end(again)
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await scene.sourceValue(Self.definitions) == "aARA0")
      #expect(try await scene.sourceValue("SELECT string_agg(v::text, ',' ORDER BY v) FROM t") == "3,4,5")
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
    }
  }
}
