import Clusters
import Testing

@testable import MigrationEngine

/// Transactions that the source sends before they have ended, and the target applies meanwhile.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(4)), .source(atLeast: 14))
struct StreamedTransactionTests {
  private static let tables = """
    CREATE TABLE large (id int PRIMARY KEY, v int, note text) \\;
    CREATE TABLE other (id int PRIMARY KEY, v int, note text) \\;
    CREATE TABLE doomed (id int PRIMARY KEY, note text) \\;
    CREATE TABLE small (id int PRIMARY KEY, v int) \\;
    INSERT INTO large SELECT n, 0, 'x' FROM generate_series(1, 20000) n \\;
    INSERT INTO other SELECT n, 0, 'x' FROM generate_series(1, 20000) n \\;
    INSERT INTO doomed SELECT n, 'x' FROM generate_series(1, 20000) n \\;
    INSERT INTO small SELECT n, 0 FROM generate_series(1, 10) n
    """

  /// Streams as soon as it may: the source keeps next to nothing in memory.
  private static func run(_ name: String, _ body: (Scene, BackgroundProcess) async throws -> Void)
    async throws
  {
    try await Scene.run(name) { scene in
      try await scene.source(
        "ALTER DATABASE \(scene.databases.name) SET logical_decoding_work_mem = '64kB'", tables)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await body(scene, engine)
    }
  }

  /// Transactions that are open on the target for one that is open on the source.
  private static func waitForOpenTransactions(
    _ count: Int, _ scene: Scene, _ engine: BackgroundProcess
  ) async throws {
    let open = """
      SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replicate apply'
        AND datname = current_database() AND state = 'idle in transaction'
      """
    try await engine.waitUntil("\(count) open transactions on the target", within: .seconds(30)) {
      try await scene.targetValue(open) == "\(count)"
    }
  }

  @Test("They are applied while they are open, side by side, and others pass them by")
  func sideBySide() async throws {
    try await Self.run("beside") { scene, engine in
      let first = try await SQLSession(scene.databases.source)
      let second = try await SQLSession(scene.databases.source)
      let third = try await SQLSession(scene.databases.source)
      try await first.execute("BEGIN")
      try await first.execute("UPDATE large SET v = v + 1, note = repeat('y', 50)")
      try await second.execute("BEGIN")
      try await second.execute("DELETE FROM other WHERE id % 3 = 0")
      try await second.execute("INSERT INTO other SELECT n, 1, 'new' FROM generate_series(20001, 30000) n")
      try await third.execute("BEGIN")
      try await third.execute("DELETE FROM doomed")
      try await third.execute("ALTER TABLE small ADD COLUMN never int")
      try await third.execute("ROLLBACK")
      try await Self.waitForOpenTransactions(2, scene, engine)
      try await scene.source("UPDATE small SET v = 1", "INSERT INTO small VALUES (11, 1)")
      try await engine.waitUntil("others are applied", within: .seconds(30)) {
        try await scene.targetValue("SELECT count(*) FROM small WHERE v = 1") == "11"
      }
      #expect(try await scene.targetValue("SELECT max(v) FROM large") == "0", "nothing is seen yet")
      // What was changed by one that has ended is changed again by one that goes on.
      try await second.execute("UPDATE other SET v = 2 WHERE id % 2 = 0")
      try await second.execute("COMMIT")
      try await first.execute("UPDATE other SET note = 'seen' WHERE v = 2")
      try await first.execute("UPDATE large SET id = id + 100000 WHERE id % 2 = 0")
      try await first.execute("COMMIT")
      for session in [first, second, third] { await session.close() }
      try await scene.waitUntilReady(engine)
      let streamed = try await scene.sourceValue(
        """
        SELECT stream_txns > 0 FROM pg_stat_replication_slots JOIN pg_replication_slots USING (slot_name)
        WHERE database = current_database()
        """)
      #expect(streamed == "t")
      #expect(!engine.errors.contains("only once they have committed"), "\(engine.errors)")
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("What a subtransaction did goes when it is rolled back, nested ones with those around them")
  func subtransactions() async throws {
    try await Self.run("sub") { scene, engine in
      let session = try await SQLSession(scene.databases.source)
      try await session.execute("BEGIN")
      try await session.execute("UPDATE large SET v = 1")
      try await session.execute("SAVEPOINT a")
      try await session.execute("UPDATE large SET v = 2 WHERE id % 2 = 0")
      try await session.execute("SAVEPOINT b")
      try await session.execute("DELETE FROM large WHERE id % 3 = 0")
      try await session.execute("RELEASE b")
      try await session.execute("UPDATE large SET note = 'gone'")
      try await Self.waitForOpenTransactions(1, scene, engine)
      try await session.execute("ROLLBACK TO a")
      try await session.execute(
        "INSERT INTO large SELECT n, 3, 'kept' FROM generate_series(30001, 40000) n")
      try await session.execute("RELEASE a")
      try await session.execute("TRUNCATE other")
      try await session.execute("INSERT INTO other SELECT n, 4, 'again' FROM generate_series(1, 5000) n")
      try await session.execute("COMMIT")
      await session.close()
      try await scene.waitUntilReady(engine)
      #expect(!engine.errors.contains("only once they have committed"), "\(engine.errors)")
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("One with hundreds of subtransactions waits for its end")
  func refused() async throws {
    try await Self.run("refused") { scene, engine in
      try await scene.source(
        """
        DO $$ BEGIN
          FOR n IN 1..300 LOOP
            BEGIN
              UPDATE large SET v = n WHERE id % 300 = n;
              IF n % 2 = 0 THEN RAISE EXCEPTION 'undone'; END IF;
            EXCEPTION WHEN raise_exception THEN NULL;
            END;
          END LOOP;
        END $$
        """)
      try await scene.waitUntilReady(engine)
      #expect(engine.errors.contains("has more than 64 subtransactions"), "\(engine.errors)")
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A table that was changed by a transaction that is rolled back afterwards stops nobody")
  func changedTable() async throws {
    try await Self.run("changed") { scene, engine in
      let session = try await SQLSession(scene.databases.source)
      try await session.execute("BEGIN")
      try await session.execute("ALTER TABLE doomed ADD COLUMN never int")
      try await session.execute("INSERT INTO doomed SELECT n, 'x', 1 FROM generate_series(20001, 40000) n")
      try await engine.waitUntil("it is refused", within: .seconds(30)) {
        engine.errors.contains("only once they have committed")
      }
      try await session.execute("ROLLBACK")
      await session.close()
      try await scene.source("INSERT INTO doomed VALUES (0, 'y')")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("An engine that is killed in the middle begins them anew")
  func killed() async throws {
    try await Self.run("killed") { scene, engine in
      let session = try await SQLSession(scene.databases.source)
      try await session.execute("BEGIN")
      try await session.execute("UPDATE large SET v = 1")
      try await Self.waitForOpenTransactions(1, scene, engine)
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      let next = try await scene.start()
      try await Self.waitForOpenTransactions(1, scene, next)
      try await session.execute("UPDATE large SET note = 'after' WHERE id % 2 = 0")
      try await session.execute("COMMIT")
      await session.close()
      try await scene.waitUntilReady(next)
      try await scene.expectEqualEnds(next)
    }
  }
}
