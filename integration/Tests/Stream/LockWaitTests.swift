import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Somebody's lock on a target table, for however long: it is named with its holder, the engine stays, and
/// goes on when the lock goes.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(5)))
struct LockWaitTests {
  /// What the status advises is done as it stands, on the target.
  private static func endHolder(
    _ table: String, _ holder: String, _ scene: Scene, _ engine: BackgroundProcess
  ) async throws {
    try await scene.waitUntil("a status that names \(table) and \(holder)", engine) { status in
      guard let waits = status.stream.waitsFor, !status.ready else { return false }
      return waits.contains(table) && waits.contains(holder)
    }
    let waits = try #require(try await scene.status().stream.waitsFor)
    let advice = try #require(waits.range(of: "To end it, on the target: "), "\(waits)")
    try await scene.target(String(waits[advice.upperBound...].prefix { $0 != ";" }))
  }

  private static func pid(_ session: SQLSession) async throws -> String {
    "session \(try await session.value("SELECT pg_backend_pid()") ?? "")"
  }

  @Test("The stream waits in the middle of a transaction, for longer than it would wait for itself")
  func middleOfTransaction() async throws {
    let tables = [
      "CREATE TABLE free (id int PRIMARY KEY, v text)", "CREATE TABLE held (id int PRIMARY KEY, v text)",
      "INSERT INTO held SELECT n, 'x' FROM generate_series(1, 100) n",
    ]
    try await Running.stream("lockmiddle", tables: tables) { running in
      let blocker = try await SQLSession(running.scene.databases.target)
      let pid = try await Self.pid(blocker)
      try await blocker.execute("BEGIN \\; LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
      // More than is taken at once, so that the lock is met after a part of the transaction.
      try await running.source([
        """
        BEGIN \\; INSERT INTO free SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 20000) n \\;
        UPDATE held SET v = 'y' \\; DELETE FROM held WHERE id > 50 \\; COMMIT
        """
      ])
      let end = ContinuousClock.now + .seconds(8)
      try await waitUntil("the end of the lock's time") { .now > end }
      #expect(running.engine.isRunning, "\(running.engine.errors)")
      try await Self.endHolder("public.held", pid, running.scene, running.engine)
      await blocker.close()
      try await running.settle()
      #expect(!running.engine.errors.contains("trying again"), "\(running.engine.errors)")
      try await running.expectEqualEnds()
    }
  }

  @Test("A prepared transaction that holds the lock is named, with what ends it")
  func prepared() async throws {
    try await Running.stream("lockprepared", tables: ["CREATE TABLE held (id int PRIMARY KEY, v text)"]) {
      running in
      let gid = "it's \(running.scene.databases.name)"
      try await running.target([
        """
        BEGIN \\; LOCK TABLE held IN SHARE MODE \\;
        PREPARE TRANSACTION '\(gid.replacing("'", with: "''"))'
        """
      ])
      try await running.source(["INSERT INTO held VALUES (1, 'x')"])
      try await Self.endHolder("public.held", "prepared transaction 'it''s ", running.scene, running.engine)
      try await running.settle()
      try await running.expectEqualEnds()
    }
  }

  @Test(
    "Transactions that are streamed while they are open, and those beside them, wait as well",
    .source(atLeast: 14))
  func streamed() async throws {
    try await Scene.run("lockstreamed") { scene in
      try await scene.source(
        "ALTER DATABASE \(scene.databases.name) SET logical_decoding_work_mem = '64kB'",
        "CREATE TABLE held (id int PRIMARY KEY, v int)", "CREATE TABLE small (id int PRIMARY KEY)",
        "INSERT INTO held SELECT n, 0 FROM generate_series(1, 20000) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let open = try await SQLSession(scene.databases.source)
      try await open.execute("BEGIN \\; UPDATE held SET v = 1 WHERE id <= 10000")
      try await engine.waitUntil("a transaction that is open on the target", within: .seconds(30)) {
        try await scene.targetValue(
          """
          SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replicate apply'
            AND datname = current_database() AND state = 'idle in transaction'
          """) == "1"
      }
      let blocker = try await SQLSession(scene.databases.target)
      let pid = try await Self.pid(blocker)
      try await blocker.execute("BEGIN \\; LOCK TABLE small IN ACCESS EXCLUSIVE MODE")
      try await scene.source("INSERT INTO small VALUES (1)")
      try await Self.endHolder("public.small", pid, scene, engine)
      try await open.execute("UPDATE held SET v = 2 WHERE id > 10000 \\; COMMIT")
      await open.close()
      await blocker.close()
      try await engine.waitUntil("both transactions", within: .seconds(60)) {
        try await scene.targetValue("SELECT sum(v) + (SELECT count(*) FROM small) FROM held") == "30001"
      }
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A table that is to be emptied and copied again waits for its readers")
  func copiedAgain() async throws {
    let tables = [
      "CREATE TABLE held (id int PRIMARY KEY, v int)",
      "INSERT INTO held SELECT n, n FROM generate_series(1, 500) n",
    ]
    try await Running.stream("lockaside", tables: tables) { running in
      let reader = try await SQLSession(running.scene.databases.target)
      let pid = try await Self.pid(reader)
      try await reader.execute("BEGIN")
      _ = try await reader.value("SELECT count(*) FROM held")
      try await running.source(["ALTER TABLE held ALTER v TYPE int USING v * 100"])
      try await Self.endHolder("public.held", pid, running.scene, running.engine)
      await reader.close()
      let scene = running.scene
      try await running.engine.waitUntil("the values that the source wrote", within: .seconds(60)) {
        try await scene.targetValue("SELECT min(v) FROM held") == "100"
      }
      try await running.expectEqualEnds()
    }
  }

  @Test("The making of a key waits for a reader of its table")
  func keys() async throws {
    try await Scene.run("lockkeys") { scene in
      try await scene.source(
        "CREATE TABLE big (id int PRIMARY KEY, v text)", "CREATE TABLE held (id int PRIMARY KEY)",
        "INSERT INTO big SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n",
        "INSERT INTO held VALUES (1)")
      // The larger table comes first, so that there is time to read the other.
      let engine = try await scene.start("--jobs", "1", "--max-rate", "3MB")
      let reader = try await SQLSession(scene.databases.target)
      try await engine.waitUntil("the table on the target", within: .seconds(30)) {
        try await scene.targetValue("SELECT to_regclass('held') IS NOT NULL") == "t"
      }
      let pid = try await Self.pid(reader)
      try await reader.execute("BEGIN")
      #expect(try await reader.value("SELECT count(*) FROM held") == "0", "it is not copied yet")
      try await Self.endHolder(
        "the making of indexes, keys and constraints waits for a lock on table public.held", pid, scene,
        engine)
      await reader.close()
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }
}
