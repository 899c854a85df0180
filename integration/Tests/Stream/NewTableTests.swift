import Clusters
import Testing

@testable import MigrationEngine

/// Tables that are created and dropped on the source while the target follows.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(4)))
struct NewTableTests {
  private static let before = """
    CREATE TABLE old (id int PRIMARY KEY, v int) \\;
    INSERT INTO old SELECT n, 0 FROM generate_series(1, 100) n \\;
    CREATE TABLE parted (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day) \\;
    CREATE INDEX ON parted (day) \\;
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') \\;
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN NEW.v := NEW.v + 1; RETURN NEW; END'
    """

  private static let created = """
    CREATE TABLE fresh (
      id serial PRIMARY KEY, old int REFERENCES old, n int GENERATED ALWAYS AS IDENTITY, v int DEFAULT 7,
      twice int GENERATED ALWAYS AS (v * 2) STORED, note text CHECK (note <> '')) \\;
    CREATE INDEX fresh_v ON fresh (v) WHERE v > 3 \\;
    CREATE TRIGGER noted BEFORE INSERT ON fresh FOR EACH ROW EXECUTE FUNCTION note() \\;
    COMMENT ON TABLE fresh IS 'new' \\;
    INSERT INTO fresh (old) SELECT n FROM generate_series(1, 50) n \\;
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') \\;
    INSERT INTO parted SELECT n, '2026-02-10' FROM generate_series(1, 50) n \\;
    CREATE TABLE tree (id int PRIMARY KEY) PARTITION BY HASH (id) \\;
    CREATE TABLE tree_0 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0) \\;
    CREATE TABLE tree_1 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 1) \\;
    INSERT INTO tree SELECT generate_series(1, 50) \\;
    CREATE UNLOGGED TABLE scratch (id int) \\;
    INSERT INTO scratch VALUES (1) \\;
    CREATE TABLE "New ""one"" " ("Kéy" int PRIMARY KEY)
    """

  /// Writes to old and new tables until it is stopped; the numbers begin at `first`.
  private static func write(_ scene: Scene, from first: Int) -> Task<Void, any Error> {
    Task {
      var n = first
      while !Task.isCancelled {
        n += 1
        try await scene.source(
          "UPDATE old SET v = v + 1 WHERE id = \(n % 100 + 1)",
          "INSERT INTO fresh (old, note) VALUES (\(n % 100 + 1), 'x')",
          "UPDATE fresh SET v = v + 1 WHERE id = 5",
          "INSERT INTO parted VALUES (\(n), '2026-02-11')", "INSERT INTO tree VALUES (\(n))")
      }
    }
  }

  private static func expectEqual(_ scene: Scene, _ engine: BackgroundProcess) async throws {
    let expected = try await SchemaDump.entries(of: scene.databases.source).filter {
      !$0.contains("replicate")
    }
    try await scene.expectEqualEnds(engine)
    let found = try await SchemaDump.entries(of: scene.databases.target).filter {
      !$0.contains("replicate")
    }
    #expect(expected.subtracting(found) == [], "only on the source")
    #expect(found.subtracting(expected) == [], "only on the target")
  }

  @Test("New tables, partitions and trees of them join under load, with all that belongs to them")
  func joining() async throws {
    try await Scene.run("new") { scene in
      try await scene.source(Self.before)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source(Self.created)
      let writing = Self.write(scene, from: 1000)
      try await engine.waitUntil("rows that were written after the copy", within: .seconds(60)) {
        let rows = try await scene.targetValue(
          "SELECT count(*) FROM pg_class WHERE relname IN ('fresh', 'tree_0', 'parted_2', 'scratch')")
        guard rows == "4" else { return false }
        return try await scene.targetValue("SELECT max(id) > 1010 FROM tree") == "t"
      }
      writing.cancel()
      _ = try? await writing.value
      try await scene.waitUntilReady(engine)
      try await Self.expectEqual(scene, engine)
    }
  }

  @Test("An engine that is killed while tables join takes them in when it is started again")
  func killed() async throws {
    try await Scene.run("newkill") { scene in
      try await scene.source(Self.before)
      var engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source(Self.created)
      let writing = Self.write(scene, from: 1000)
      for moment in [0, 300, 600, 900] {
        let current = engine
        try await current.waitUntil("tables join", within: .seconds(30)) {
          current.errors.contains("tables join the migration")
        }
        // The moment is what is tested.
        try await Task.sleep(for: .milliseconds(moment))
        engine.kill9()
        _ = try await engine.waitForEnd(within: .seconds(10))
        engine = try await scene.start()
        if try await scene.targetValue("SELECT count(*) > 0 FROM replicate.joining") != "t" { break }
      }
      try await scene.waitUntilReady(engine)
      writing.cancel()
      _ = try? await writing.value
      try await scene.waitUntilReady(engine)
      try await Self.expectEqual(scene, engine)
    }
  }

  @Test("What keeps a table from joining is named, and refuses the cutover, until it is mended")
  func obstacles() async throws {
    try await Scene.run("obstacle") { scene in
      try await scene.source(
        "CREATE TABLE old (id int PRIMARY KEY)", "CREATE TABLE gone (id int PRIMARY KEY)",
        "INSERT INTO gone VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source("CREATE TABLE keyless (id int)", "INSERT INTO keyless VALUES (1)")
      try await scene.waitUntil("a status that names the key", engine) {
        $0.stream.waitsFor?.contains("\"keyless\" has no replica identity") == true && !$0.ready
      }
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5)
      #expect(refused.errors.contains("keyless"), "\(refused.errors)")
      try await scene.source("UPDATE keyless SET id = 2", "ALTER TABLE keyless ADD PRIMARY KEY (id)")
      try await scene.waitUntilReady(engine)
      #expect(try await scene.targetValue("SELECT id FROM keyless") == "2")

      try await scene.source(
        "CREATE TYPE mood AS ENUM ('ok')", "CREATE TABLE typed (id int PRIMARY KEY, m mood)",
        "INSERT INTO typed VALUES (1, 'ok')")
      try await scene.waitUntil("a status that names the type", engine) {
        $0.stream.waitsFor?.contains("type \"public.mood\" does not exist") == true
      }
      try await scene.target("CREATE TYPE mood AS ENUM ('ok')")
      try await scene.waitUntilReady(engine)
      #expect(try await scene.targetValue("SELECT m FROM typed") == "ok")

      try await scene.source(
        "DROP TABLE gone", "CREATE TABLE gone (key text PRIMARY KEY)", "INSERT INTO gone VALUES ('new')")
      try await scene.waitUntil("a status that names the drop", engine) {
        $0.stream.waitsFor?.contains("DROP TABLE \"public\".\"gone\";") == true
      }
      try await scene.target("DROP TABLE gone")
      try await scene.waitUntilReady(engine)
      try await Self.expectEqual(scene, engine)
    }
  }

  @Test("What is made, and dropped, on the source while other tables wait to join joins, or is named")
  func whileJoining() async throws {
    try await Scene.run("whilejoining") { scene in
      try await scene.source(Self.before)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      // No snapshot is taken while a transaction is open that has written.
      let open = try await SQLSession(scene.databases.source)
      try await open.execute("BEGIN")
      try await open.execute("UPDATE old SET v = 5 WHERE id = 1")
      try await scene.source(
        """
        CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') \\;
        CREATE TABLE doomed (id int PRIMARY KEY) \\; INSERT INTO doomed VALUES (1)
        """)
      try await engine.waitUntil("the first partition joins", within: .seconds(30)) {
        engine.errors.contains("tables join the migration")
      }
      try await scene.source(
        "CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')",
        "INSERT INTO parted VALUES (1, '2026-02-10'), (2, '2026-03-10')", "DROP TABLE doomed")
      try await open.execute("COMMIT")
      await open.close()
      try await engine.waitUntil("both partitions", within: .seconds(60)) {
        try await scene.targetValue(
          "SELECT count(*) FROM parted WHERE to_regclass('parted_3') IS NOT NULL") == "2"
      }
      try await scene.followAdvice("DROP TABLE \"public\".\"doomed\";", engine)
      try await Self.expectEqual(scene, engine)
    }
  }

  @Test("A comparison waits for tables that join, and begins anew when one joins in the middle")
  func comparedMeanwhile() async throws {
    try await Scene.run("compared") { scene in
      try await scene.source(
        "CREATE TABLE big (id int PRIMARY KEY, body text)",
        "INSERT INTO big SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      // No snapshot is taken while a transaction is open that has written.
      let open = try await SQLSession(scene.databases.source)
      try await open.execute("BEGIN")
      try await open.execute("UPDATE big SET body = 'y' WHERE id = 1")
      try await scene.source("CREATE TABLE first (id int PRIMARY KEY)", "INSERT INTO first VALUES (1)")
      try await engine.waitUntil("the first joins", within: .seconds(30)) {
        engine.errors.contains("tables join the migration")
      }
      let verify = try await scene.replicate.start("verify", "--max-rate", "2MB")
      try await verify.waitUntil("what it waits for", within: .seconds(20)) {
        verify.errors.contains("waiting to begin: tables are being copied: \"public\".\"first\"")
      }
      try await open.execute("COMMIT")
      await open.close()
      try await scene.waitUntil("rows are compared", engine) {
        $0.verification?.lsn != nil
      }
      try await scene.source("CREATE TABLE second (id int PRIMARY KEY)", "INSERT INTO second VALUES (1)")
      #expect(try await verify.waitForEnd(within: .seconds(90)) == 0, "\(verify.output)\(verify.errors)")
      #expect(
        verify.output.contains(/"second" +equal +1 row/) && verify.output.contains(/"first" +equal +1 row/),
        "\(verify.output)")
      #expect(verify.errors.contains("\"public\".\"second\""), "\(verify.errors)")
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A partition that is made during the first copy joins before foreign keys are checked")
  func duringTheCopy() async throws {
    try await Scene.run("early") { scene in
      try await scene.source(
        Self.before, "CREATE TABLE big (id int PRIMARY KEY, body text)",
        "INSERT INTO big SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n")
      let engine = try await scene.start("--max-rate", "20MB")
      try await scene.waitUntil("copying", engine) { $0.phase == .copy && $0.copy.bytesDone > 0 }
      try await scene.source(Self.created)
      try await scene.source("INSERT INTO parted VALUES (1000, '2026-02-11')")
      try await scene.waitUntilReady(engine)
      #expect(try await scene.targetValue("SELECT count(*) FROM parted_2") == "51")
      try await Self.expectEqual(scene, engine)
    }
  }
}
