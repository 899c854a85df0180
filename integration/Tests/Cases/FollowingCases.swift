import Clusters
import Testing

@testable import MigrationEngine

/// Definitions and partitions that change on both ends while the stream runs.
@Suite(.serialized, .servers, .timeLimit(.minutes(5)))
struct FollowingCases {
  @Test(
    "Cases 16, 20, 40: columns in another order, partitions that come and go, tables that are rewritten"
  )
  func definitions() async throws {
    try await Running.stream("following", tables: Self.tables) { running in
      try await running.target([
        "ALTER TABLE c16 ADD COLUMN b text DEFAULT 'b'", "ALTER TABLE c16 ADD COLUMN a int DEFAULT 1",
      ])
      try await running.source([
        "INSERT INTO c16 VALUES (101)",
        "ALTER TABLE c16 ADD COLUMN a int DEFAULT 1, ADD COLUMN b text DEFAULT 'b'",
        "INSERT INTO c16 (id, a, b) SELECT i, -i, 'x' || i FROM generate_series(200, 260) i",
        "UPDATE c16 SET a = a + 1, b = NULL WHERE id % 2 = 0",
      ])
      try await Self.movePartitions(running)
      try await Self.rewrite(running)
      try await running.settle()
      let order =
        """
        SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'c16'::regclass AND attnum > 0
        """
      #expect(try await running.scene.targetValue(order) == "id,b,a")
      // Each column by its name, whatever its place.
      try await running.both(["CREATE VIEW c16_ordered AS SELECT id, a, b FROM c16"])
      try await running.scene.waitUntilReady(running.engine)
      let cutover = try await running.scene.replicate.run(
        "cutover", "--yes", "--max-pause", "60s", "--accept-difference", "column order of table public.c16")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(running.engine.errors)")
      _ = try await running.engine.waitForEnd(within: .seconds(30))
      try await running.scene.expectEqual(
        "SELECT md5(string_agg(v::text, ';' ORDER BY id)) FROM c16_ordered v")
      try await running.target([
        "CREATE TABLE again AS SELECT id, a, b FROM c16", "DROP TABLE c16 CASCADE",
        "ALTER TABLE again RENAME TO c16",
      ])
      let differences = try await DatabaseComparison().differences(
        source: running.scene.databases.source, target: running.scene.databases.target)
      #expect(differences == [])
    }
  }

  private static let tables = [
    #"""
    CREATE TABLE c16 (id int PRIMARY KEY) \; INSERT INTO c16 SELECT generate_series(1, 50) \;
    CREATE TABLE c20 (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region) \;
    CREATE TABLE c20_eu PARTITION OF c20 FOR VALUES IN ('eu') \; CREATE TABLE c20_us PARTITION OF c20
      FOR VALUES IN ('us') \;
    CREATE TABLE c20_old (id int, region text, v int, PRIMARY KEY (id, region)) \; CREATE TABLE c20_rest
      PARTITION OF c20 DEFAULT \;
    CREATE TABLE c20_holes (gone int, v int, region text, id int, PRIMARY KEY (id, region)) \; ALTER
      TABLE c20_holes DROP COLUMN gone \;
    ALTER TABLE c20_holes ALTER region SET NOT NULL \; ALTER TABLE c20 ATTACH PARTITION c20_holes FOR
      VALUES IN ('holes') \;
    INSERT INTO c20 SELECT i, CASE i % 4 WHEN 0 THEN 'eu' WHEN 1 THEN 'us' WHEN 2 THEN 'holes' ELSE 'x'
      END, i FROM generate_series(1, 200) i \;
    INSERT INTO c20_old SELECT i, 'old', i FROM generate_series(1000, 1050) i
    """#,
    #"""
    CREATE TABLE c40 (id int PRIMARY KEY, v int, w int, t text) \; INSERT INTO c40 SELECT i, i, i,
      repeat('t', i) FROM generate_series(1, 200) i \;
    CREATE TABLE c40_unique (id int PRIMARY KEY, code text NOT NULL, v int) \; INSERT INTO c40_unique
      SELECT i, 'c' || i, 0 FROM generate_series(1, 50) i \;
    CREATE TABLE c9 (id int PRIMARY KEY, w int, twice int GENERATED ALWAYS AS (w * 2) STORED) \; INSERT
      INTO c9 SELECT i, i FROM generate_series(1, 50) i
    """#,
  ]

  private static func movePartitions(_ running: Running) async throws {
    try await running.source([
      "UPDATE c20 SET region = 'us' WHERE region = 'eu' AND id % 8 = 0",
      "UPDATE c20 SET region = 'eu', v = -1 WHERE id % 10 = 3",
      "UPDATE c20 SET region = 'holes', id = id + 500 WHERE region = 'x'",
      "DELETE FROM c20 WHERE id % 13 = 0",
    ])
    try await running.settle()
    try await running.both(["ALTER TABLE c20 ATTACH PARTITION c20_old FOR VALUES IN ('old')"])
    try await running.source([
      "INSERT INTO c20 SELECT i, 'old', i FROM generate_series(2000, 2050) i",
      "UPDATE c20 SET region = 'eu' WHERE id = 1001",
      "UPDATE c20 SET v = 7 WHERE region = 'old'",
    ])
    try await running.settle()
    // A table that is detached is still the migration's.
    try await running.both(["ALTER TABLE c20 DETACH PARTITION c20_us"])
    try await running.source([
      "UPDATE c20_us SET v = v + 1000",
      "INSERT INTO c20_us VALUES (9999, 'anything', 1)",
      "DELETE FROM c20_us WHERE id % 3 = 0",
      "INSERT INTO c20 VALUES (8888, 'us', 1)",
    ])
    try await running.settle()
    try await running.both(["ALTER TABLE c20_rest RENAME TO c20_remainder"])
    try await running.source(["UPDATE c20 SET v = 0 WHERE id > 400", "TRUNCATE c20_eu"])
  }

  private static func rewrite(_ running: Running) async throws {
    try await running.source([
      "VACUUM FULL c40",
      "CLUSTER c40 USING c40_pkey",
      "UPDATE c40 SET v = v + 1",
      "CREATE INDEX CONCURRENTLY c40_v ON c40 (v)",
      "REINDEX TABLE CONCURRENTLY c40",
      "UPDATE c40 SET t = t || '!' WHERE id % 2 = 0",
    ])
    try await running.settle()
    try await running.both(["ALTER TABLE c40 ALTER w TYPE bigint, ALTER t TYPE varchar(300)"])
    try await running.source([
      "UPDATE c40 SET w = 3000000000 + id",
      #"""
      BEGIN \; UPDATE c40 SET v = 1 \; ALTER TABLE c40 ADD COLUMN x int \; ALTER TABLE c40 DROP COLUMN x
        \; UPDATE c40 SET v = 2 \; COMMIT
      """#,
    ])
    try await running.settle()
    // A new identity needs its index on both ends.
    try await running.source([
      "CREATE UNIQUE INDEX c40_code ON c40_unique (code)",
      "ALTER TABLE c40_unique REPLICA IDENTITY USING INDEX c40_code",
      "UPDATE c40_unique SET v = 1",
    ])
    try await running.scene.waitUntil("waiting for the index", running.engine) {
      $0.stream.waitsFor?.contains("no unique index on its replica identity") == true
    }
    try await running.target([
      "CREATE UNIQUE INDEX c40_code ON c40_unique (code)",
      "ALTER TABLE c40_unique REPLICA IDENTITY USING INDEX c40_code",
      // And what no row waits for, before the cutover.
      "CREATE INDEX c40_v ON c40 (v)", "ALTER TABLE c40 CLUSTER ON c40_pkey",
    ])
    try await running.settle()
    try await running.source([
      "ALTER TABLE c9 ALTER twice DROP EXPRESSION", "UPDATE c9 SET twice = 1 WHERE id < 10",
      "INSERT INTO c9 VALUES (100, 1, 5)",
    ])
    try await running.scene.waitUntil("waiting for the expression to go", running.engine) {
      $0.stream.waitsFor?.contains("DROP EXPRESSION") == true
    }
    try await running.target(["ALTER TABLE c9 ALTER twice DROP EXPRESSION"])
    try await running.settle()
  }

  @Test("Cases 9, 15, 16: what only one end has stops the stream until the other has it, and costs no row")
  func oneSided() async throws {
    let tables = [
      #"""
      CREATE TYPE mood AS ENUM ('sad') \; CREATE TABLE t (id int PRIMARY KEY, m mood) \; CREATE TABLE
        extra (id int PRIMARY KEY) \;
      CREATE TABLE area (id int PRIMARY KEY, w int, twice int GENERATED ALWAYS AS (w * 2) STORED)
      """#
    ]
    try await Running.stream("onesided", tables: tables) { running in
      let scene = running.scene
      // The target's definitions are read when a stream begins.
      try await running.target(["ALTER TABLE extra ADD COLUMN only_here int DEFAULT 5"])
      try await running.replaceEngine()
      try await running.source(["INSERT INTO extra VALUES (1)"])
      try await scene.waitUntil("waiting for the column to go", running.engine) {
        $0.stream.waitsFor?.contains("DROP COLUMN \"only_here\"") == true
      }
      try await running.target(["ALTER TABLE extra DROP COLUMN only_here"])
      try await running.settle()
      try await running.target(["ALTER TABLE area ALTER twice DROP EXPRESSION"])
      try await running.replaceEngine()
      try await running.source(["INSERT INTO area (id, w) VALUES (1, 2)"])
      try await scene.waitUntil("waiting for the expression", running.engine) {
        $0.stream.waitsFor?.contains("generated on the source") == true
      }
      try await running.target([
        "ALTER TABLE area DROP COLUMN twice",
        "ALTER TABLE area ADD COLUMN twice int GENERATED ALWAYS AS (w * 2) STORED",
      ])
      try await running.settle()
      // A label of an enum is not in the stream: the target refuses its first row, and the engine can be
      // started again.
      try await running.source([
        "ALTER TYPE mood ADD VALUE 'great'", "INSERT INTO t VALUES (1, 'sad')",
        "INSERT INTO t VALUES (2, 'great')",
      ])
      #expect(try await running.engine.waitForEnd(within: .seconds(30)) == 1)
      #expect(
        running.engine.errors.contains("22P02") && running.engine.errors.contains("\"t\""),
        "\(running.engine.errors)")
      try await running.target(["ALTER TYPE mood ADD VALUE 'great'"])
      running.engine = try await scene.start(["--replica-identity", "full"])
      try await running.expectEqualEnds()
    }
  }

  @Test("Case 41: a table that was taken out of the publication keeps the cutover from losing its changes")
  func unpublished() async throws {
    try await Running.stream("unpublished", tables: ["CREATE TABLE t (id int PRIMARY KEY)"]) { running in
      try await running.source(["ALTER PUBLICATION replicate DROP TABLE t", "INSERT INTO t VALUES (1)"])
      let cutover = try await running.scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 5, "\(cutover.output)\(cutover.errors)")
      #expect(cutover.errors.contains("\"public\".\"t\""), "\(cutover.errors)")
      try await running.source(["INSERT INTO t VALUES (2)"])
      running.engine.terminate()
      #expect(try await running.engine.waitForEnd(within: .seconds(20)) == 0)
    }
  }
}
