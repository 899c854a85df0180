import Clusters
import Testing

@testable import MigrationEngine

/// Rows come in binary as long as that is exact, and as text from where it is not.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)), .source(atLeast: 14))
struct BinaryStreamTests {
  private static let inBinary = "streaming in binary"
  private static let again = "streaming again in text"

  @Test("A column whose type means something else on the target makes the stream go on in text")
  func columnAdded() async throws {
    try await Scene.run("binary_ddl") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
      let engine = try await scene.start("--log-level", "debug")
      try await scene.waitUntilReady(engine)
      #expect(engine.errors.contains(Self.inBinary), "\(engine.errors)")
      let change = "ALTER TABLE t ADD COLUMN c regclass"
      try await scene.target(change)
      try await scene.source(change)
      try await scene.source(
        "INSERT INTO t VALUES (2, 2, 't')", "UPDATE t SET c = 'pg_class' WHERE id = 1")
      try await scene.expectEqualEnds(engine)
      #expect(engine.errors.contains("streaming in text"), "\(engine.errors)")
      #expect(engine.errors.contains(#"column \"c\" of table \"public\".\"t\" has"#), "\(engine.errors)")
    }
  }

  @Test("A stream that is behind a change of type leaves the table's old rows alone, and copies it again")
  func typeChangedAhead() async throws {
    try await Scene.run("binary_ahead") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 50) n")
      var engine = try await scene.start("--log-level", "debug")
      try await scene.waitUntilReady(engine)
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
      try await scene.source("UPDATE t SET v = v + 1", "ALTER TABLE t ALTER v TYPE float4")
      try await scene.target("ALTER TABLE t ALTER v TYPE float4")
      engine = try await scene.start("--log-level", "debug")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
      #expect(engine.errors.contains(Self.inBinary), "\(engine.errors)")
      #expect(engine.errors.contains("a table is copied again"), "\(engine.errors)")
    }
  }

  @Test("Many rows of tables whose row types hold more than the changes carry")
  func rowTypes() async throws {
    try await Scene.run("binary_types") { scene in
      try await scene.source(
        """
        CREATE DOMAIN word AS text NOT NULL CHECK (VALUE <> '') \\;
        CREATE TABLE t (
          gone int, id int, twice bigint GENERATED ALWAYS AS (id * 2) STORED, tags text[], big text, w word,
          PRIMARY KEY (id)) \\;
        ALTER TABLE t DROP COLUMN gone, ALTER big SET STORAGE EXTERNAL \\;
        CREATE TABLE computed (id int PRIMARY KEY, v int, w word GENERATED ALWAYS AS ('w' || 1) STORED) \\;
        INSERT INTO t (id, tags, big, w)
          SELECT n, ARRAY[n::text, NULL], repeat(md5(n::text), 200), 'w' FROM generate_series(1, 200) n \\;
        INSERT INTO computed (id, v) SELECT n, 0 FROM generate_series(1, 200) n
        """)
      let engine = try await scene.start("--log-level", "debug")
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "UPDATE t SET tags = tags || tags", "UPDATE t SET big = 'small', w = 'x' WHERE id % 2 = 0",
        "DELETE FROM t WHERE id % 3 = 0", "UPDATE computed SET v = 1", "UPDATE t SET id = id + 1000",
        "DELETE FROM computed WHERE id % 2 = 0")
      try await scene.expectEqualEnds(engine)
      #expect(engine.errors.contains(Self.inBinary), "\(engine.errors)")
      #expect(!engine.errors.contains(Self.again), "\(engine.errors)")
      #expect(!engine.errors.contains("one by one"), "\(engine.errors)")
    }
  }

  @Test("A change that the target refuses comes again as text, so that its key can be named")
  func refusedChange() async throws {
    try await Scene.run("binary_key") { scene in
      try await scene.source(
        "CREATE TABLE t (id int, part text, v int, PRIMARY KEY (part, id))",
        "INSERT INTO t VALUES (17, 'ä b', 0), (18, 'c', 0)")
      let engine = try await scene.start("--log-level", "debug")
      try await scene.waitUntilReady(engine)
      try await scene.target("SET session_replication_role = replica", "DELETE FROM t WHERE id = 17")
      try await scene.source("UPDATE t SET v = 1")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 1)
      #expect(engine.errors.contains(Self.inBinary), "\(engine.errors)")
      #expect(engine.errors.contains(Self.again), "\(engine.errors)")
      #expect(engine.errors.contains(#"key ("part", "id") = (ä b, 17)"#), "\(engine.errors)")
      #expect(try await scene.targetValue("SELECT sum(v) FROM t") == "0")
    }
  }

  @Test("Rows without a key are found by their bytes")
  func wholeRows() async throws {
    try await Scene.run("binary_rows") { scene in
      try await scene.source(
        """
        CREATE TABLE t (a float8, b numeric, c text[], d jsonb) \\;
        INSERT INTO t SELECT nullif(n, 3), 'NaN', ARRAY[[n::text], [NULL]], '{"a": 1.0}'
          FROM generate_series(1, 5) n
        """)
      let engine = try await scene.start("--log-level", "debug", "--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "UPDATE t SET a = 'NaN', b = 1.00 WHERE a = 1", "UPDATE t SET a = '-0', c = NULL WHERE a = 2",
        "DELETE FROM t WHERE a IS NULL", "UPDATE t SET d = '[]'", "DELETE FROM t WHERE a = 'NaN'")
      try await scene.expectEqualEnds(engine)
      #expect(engine.errors.contains(Self.inBinary), "\(engine.errors)")
      #expect(!engine.errors.contains(Self.again), "\(engine.errors)")
    }
  }
}
