import Clusters
import Testing

@testable import MigrationEngine

/// What databases of others had that ours had not.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(5)))
struct StrangerCases {
  @Test(
    "Case 58: TRUNCATE of tables that foreign keys join, one of them partitioned, unlogged or not copied",
    arguments: Pace.allCases)
  func truncation(_ pace: Pace) async throws {
    let tables = [
      #"""
      CREATE TABLE c58_parent (id int PRIMARY KEY) \;
      INSERT INTO c58_parent SELECT generate_series(1, 50) \;
      CREATE TABLE c58_parted (id int REFERENCES c58_parent, day int, PRIMARY KEY (id, day)) PARTITION BY
        LIST (day) \;
      CREATE TABLE c58_parted_1 PARTITION OF c58_parted FOR VALUES IN (1) \;
      CREATE TABLE c58_parted_2 PARTITION OF c58_parted FOR VALUES IN (2) \;
      INSERT INTO c58_parted SELECT n, n % 2 + 1 FROM generate_series(1, 50) n \;
      CREATE TABLE c58_root (id int PRIMARY KEY) PARTITION BY RANGE (id) \;
      CREATE TABLE c58_root_1 PARTITION OF c58_root FOR VALUES FROM (0) TO (100) \;
      INSERT INTO c58_root SELECT generate_series(1, 50) \;
      CREATE TABLE c58_child (id int PRIMARY KEY REFERENCES c58_root) \;
      INSERT INTO c58_child SELECT generate_series(1, 50) \;
      CREATE TABLE c58_logged (id int PRIMARY KEY) \;
      INSERT INTO c58_logged SELECT generate_series(1, 50) \;
      CREATE UNLOGGED TABLE c58_unlogged (id int PRIMARY KEY REFERENCES c58_logged) \;
      INSERT INTO c58_unlogged SELECT generate_series(1, 50)
      """#
    ]
    try await Running.stream("truncation", tables: tables) { running in
      let changes = [
        #"TRUNCATE c58_parent, c58_parted \; INSERT INTO c58_parent VALUES (1)"#,
        "INSERT INTO c58_parted VALUES (1, 2)",
        #"TRUNCATE c58_root CASCADE \; INSERT INTO c58_root VALUES (7)"#,
        #"TRUNCATE c58_logged CASCADE \; INSERT INTO c58_logged VALUES (7)"#,
        "INSERT INTO c58_unlogged VALUES (7)",
      ]
      try await running.source(changes.map { [$0] }, pace)
      try await running.expectEqualEnds()
    }
  }

  @Test(
    "Case 60: rows without a key are found by the server's equality, and of equal ones the same is taken",
    arguments: Pace.allCases)
  func equality(_ pace: Pace) async throws {
    let tables = [
      #"""
      CREATE COLLATION c60_loose (provider = icu, locale = 'und-u-ks-level2', /*ICU*/
        deterministic = false) \; /*ICU*/
      CREATE TABLE c60 (f float8, r float4[], n numeric, t text, b bpchar,
        j json, p point, a int[], v int) \;
      ALTER TABLE c60 ALTER t TYPE text COLLATE c60_loose \; /*ICU*/
      ALTER TABLE c60 REPLICA IDENTITY FULL \;
      INSERT INTO c60 SELECT 'Infinity'::float8 - 'Infinity'::float8,
        ARRAY['Infinity'::float4 - 'Infinity'::float4, '-0'], CASE n % 2 WHEN 0 THEN 1.0 ELSE 1.00 END,
        CASE n % 2 WHEN 0 THEN 'a' ELSE 'A' END, CASE n % 2 WHEN 0 THEN 'x ' ELSE 'x' END,
        '{"a":  1}', '(1,-0)',
        CASE n % 2 WHEN 0 THEN array_remove(ARRAY[1, NULL, 2], NULL) ELSE ARRAY[1, 2] END, n
      FROM generate_series(1, 40) n \;
      INSERT INTO c60 (v) SELECT n FROM generate_series(1, 4) n \;
      CREATE TABLE c60_none () \; ALTER TABLE c60_none REPLICA IDENTITY FULL
      """#
    ]
    try await Running.stream("equality", tables: tables) { running in
      let changes =
        [
          "UPDATE c60 SET v = v + 100 WHERE v % 3 = 0", "DELETE FROM c60 WHERE v % 4 = 1",
          "UPDATE c60 SET f = 'Infinity'::float8 - 'Infinity'::float8, v = -v WHERE v % 4 = 2",
          "UPDATE c60 SET v = 0 WHERE t = 'a' AND t COLLATE \"C\" = 'A'", "DELETE FROM c60 WHERE f IS NULL",
        ]
      try await running.source(changes.map { [$0] }, pace)
      try await running.expectEqualEnds()
    }
  }

  @Test("Case 72: under REPLICA IDENTITY FULL a unique column that is never NULL finds the rows")
  func fullWithUniqueColumn() async throws {
    let tables = [
      #"""
      CREATE TABLE c72 (k text NOT NULL UNIQUE, n int UNIQUE, v int) \;
      ALTER TABLE c72 REPLICA IDENTITY FULL \;
      INSERT INTO c72 SELECT 'k' || n, n, n FROM generate_series(1, 200000) n
      """#
    ]
    try await Running.stream("fullunique", tables: tables) { running in
      let began = ContinuousClock.now
      try await running.source(
        [#"UPDATE c72 SET v = v + 1 WHERE n <= 20000 \; UPDATE c72 SET k = k || 'x' WHERE n > 199000"#])
      try await running.expectEqualEnds()
      // Reading the table for each row would take a quarter of an hour.
      #expect(ContinuousClock.now - began < .seconds(60))
    }
  }
}
