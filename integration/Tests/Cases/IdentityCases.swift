import Clusters
import Testing

@testable import MigrationEngine

/// How rows are found again, and what happens when their keys and unique values move.
@Suite(.serialized, .servers, .timeLimit(.minutes(5)))
struct IdentityCases {
  @Test(
    """
    Cases 3, 5, 6, 7, 53: keys that move and change places, and rows that nothing but all of their
      values names
    """,
    arguments: Pace.allCases)
  func identities(_ pace: Pace) async throws {
    try await Running.stream("identities", tables: Self.tables) { running in
      try await running.source(Self.changes, pace)
      // No row waits for it, but the cutover.
      try await running.target(["ALTER TABLE c5 REPLICA IDENTITY DEFAULT"])
      try await running.expectEqualEnds()
    }
  }

  private static let tables = [
    #"""
    CREATE TABLE c3 (a int, b int, v int, PRIMARY KEY (a, b)) \; INSERT INTO c3 SELECT i, -i, 0 FROM
      generate_series(1, 100) i \;
    CREATE TABLE c3_deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text) \;
    INSERT INTO c3_deferred SELECT i, 'row ' || i FROM generate_series(1, 100) i \;
    CREATE TABLE c3_place (id int PRIMARY KEY, pos int UNIQUE DEFERRABLE) \; INSERT INTO c3_place SELECT
      i, i FROM generate_series(1, 100) i \;
    CREATE TABLE c3_shift (id int PRIMARY KEY, v int) \; INSERT INTO c3_shift SELECT i, i FROM
      generate_series(1, 100) i \;
    CREATE TABLE c3_mail (id int PRIMARY KEY, mail text UNIQUE, big text) \; ALTER TABLE c3_mail ALTER
      big SET STORAGE EXTERNAL \;
    INSERT INTO c3_mail SELECT i, i || '@', repeat(md5(i::text), 200) FROM generate_series(1, 100) i \;
    CREATE TABLE c3_free (id int PRIMARY KEY, span int4range, kind int, EXCLUDE USING gist (span WITH
      &&) WHERE (kind > 0)) \;
    INSERT INTO c3_free SELECT i, int4range(i, i + 1), 1 FROM generate_series(1, 100) i \;
    CREATE TABLE c3_partial (id int PRIMARY KEY, owner int, active bool) \;
    CREATE UNIQUE INDEX ON c3_partial (owner) WHERE active \; INSERT INTO c3_partial SELECT i, i % 10, i
      <= 10 FROM generate_series(1, 100) i \;
    CREATE TABLE c3_lower (id int PRIMARY KEY, name text) \; CREATE UNIQUE INDEX ON c3_lower
      (lower(name)) \;
    INSERT INTO c3_lower SELECT i, 'Name ' || i FROM generate_series(1, 100) i \;
    CREATE TABLE c3_nulls (id int PRIMARY KEY, v int UNIQUE NULLS NOT DISTINCT) \; /*15+*/
    CREATE TABLE c3_nulls (id int PRIMARY KEY, v int UNIQUE) \; /*15-*/
    INSERT INTO c3_nulls
      SELECT i, i FROM generate_series(1, 50) i
    """#,
    #"""
    CREATE TABLE c5 (id int PRIMARY KEY, k int NOT NULL UNIQUE, l text NOT NULL UNIQUE, big text) \;
    ALTER TABLE c5 ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY USING INDEX c5_k_key \;
    INSERT INTO c5 SELECT i, i, 'l' || i, repeat(md5(i::text), 200) FROM generate_series(1, 100) i \;
    CREATE TABLE c5_wide (v int, k int NOT NULL, l text NOT NULL) \; CREATE UNIQUE INDEX c5_wide_key ON
      c5_wide (l, k) INCLUDE (v) \;
    ALTER TABLE c5_wide REPLICA IDENTITY USING INDEX c5_wide_key \; INSERT INTO c5_wide SELECT i, i %
      10, 'l' || i FROM generate_series(1, 100) i
    """#,
    #"""
    CREATE TABLE c6 (a int, j json, f float8, t text) \;
    INSERT INTO c6 SELECT n % 4, CASE n % 3 WHEN 0 THEN '{"k":  1}'::json WHEN 1 THEN '{"k": 1}' END,
      CASE n % 2 WHEN 0 THEN '-0'::float8 END,
      CASE n % 5 WHEN 0 THEN '' END FROM generate_series(1, 240) n \;
    CREATE TABLE c6_parted (a int, j json) PARTITION BY LIST (a) \; CREATE TABLE c6_one PARTITION OF
      c6_parted FOR VALUES IN (1) \;
    CREATE TABLE c6_two PARTITION OF c6_parted FOR VALUES IN (2) \; CREATE TABLE c6_rest PARTITION OF
      c6_parted DEFAULT \;
    INSERT INTO c6_parted SELECT 1 + n % 3, CASE WHEN n % 2 = 0 THEN '[]'::json END FROM
      generate_series(1, 90) n \;
    CREATE TABLE c7_keyless (k int UNIQUE, v int) \; INSERT INTO c7_keyless VALUES (1, 1), (2, 2),
      (NULL, 3), (NULL, 3) \;
    CREATE TABLE c7_nothing (id int PRIMARY KEY, v int) \; ALTER TABLE c7_nothing REPLICA IDENTITY
      NOTHING \;
    INSERT INTO c7_nothing SELECT i, i FROM generate_series(1, 50) i
    """#,
  ]

  private static let changes = [
    [
      "UPDATE c3 SET a = a + 1000 WHERE a <= 40",
      "UPDATE c3 SET b = b - 1 WHERE a = 50",
      "UPDATE c3 SET a = b, b = a WHERE a BETWEEN 60 AND 70",
      #"""
      BEGIN \; UPDATE c3 SET a = 0 WHERE a = 80 \; UPDATE c3 SET a = 80, b = -80 WHERE a = 81 \; UPDATE
        c3 SET a = 81, b = -81 WHERE a = 0 \; COMMIT
      """#,
      "UPDATE c3_deferred SET id = 101 - id",
      "UPDATE c3_deferred SET v = v || '.' WHERE id % 2 = 0",
      "UPDATE c3_deferred SET id = id + 1 WHERE id > 50",
      "UPDATE c3_place SET pos = pos + 1", "UPDATE c3_place SET pos = 103 - pos",
      #"""
      BEGIN \; SET CONSTRAINTS ALL DEFERRED \; UPDATE c3_place SET pos = 2 WHERE id = 1 \; UPDATE
        c3_place SET pos = 3 WHERE id = 100 \; UPDATE c3_place SET pos = 102 - id WHERE id IN (1, 100)
        \; COMMIT
      """#,
      """
      DO $$ BEGIN FOR n IN REVERSE 100..1 LOOP UPDATE c3_shift SET id = id + 1 WHERE id = n; END LOOP;
        END $$
      """,
      """
      DO $$ BEGIN FOR n IN 1..100 LOOP UPDATE c3_shift SET id = n, v = v + 1 WHERE id = n + 1; END LOOP;
        END $$
      """,
      "DELETE FROM c3_shift WHERE id < 50",
      "INSERT INTO c3_shift SELECT i, -i FROM generate_series(1, 49) i",
    ],
    [
      #"""
      BEGIN \; UPDATE c3_mail SET mail = NULL WHERE id = 1 \; UPDATE c3_mail SET mail = '1@' WHERE id =
        2 \; UPDATE c3_mail SET mail = '2@' WHERE id = 1 \; COMMIT
      """#,
      #"""
      BEGIN \; DELETE FROM c3_mail WHERE id = 3 \; INSERT INTO c3_mail VALUES (103, '3@', 'x') \; UPDATE
        c3_mail SET mail = '4@@' WHERE id = 4 \; INSERT INTO c3_mail VALUES (104, '4@', NULL) \; COMMIT
      """#,
      """
      DO $$ BEGIN UPDATE c3_mail SET mail = '' WHERE id = 10;
        FOR n IN 11..90 LOOP UPDATE c3_mail SET mail = (n - 1) || '@' WHERE id = n; END LOOP; END $$
      """,
      """
      DO $$ BEGIN UPDATE c3_free SET kind = 0 WHERE id = 1;
        FOR n IN 2..90 LOOP UPDATE c3_free SET span = int4range(n - 1, n) WHERE id = n; END LOOP; END $$
      """,
      """
      DO $$ BEGIN FOR n IN 1..10 LOOP UPDATE c3_partial SET active = false WHERE id = n;
        UPDATE c3_partial SET active = true WHERE id = n + 10; END LOOP; END $$
      """,
      """
      DO $$ BEGIN FOR n IN REVERSE 100..1 LOOP UPDATE c3_lower SET name = 'NAME ' || n + 1 WHERE id = n;
        END LOOP; END $$
      """,
      #"""
      BEGIN \; UPDATE c3_nulls SET v = NULL WHERE id = 1 \; UPDATE c3_nulls SET v = 1 WHERE id = 2 \;
        UPDATE c3_nulls SET v = 2 WHERE id = 1 \; UPDATE c3_nulls SET v = NULL WHERE id = 50 \; COMMIT
      """#,
    ],
    [
      "UPDATE c5 SET k = k + 1000 WHERE id <= 60", #"BEGIN \; UPDATE c5 SET l = l || '.' \; COMMIT"#,
      "ALTER TABLE c5 REPLICA IDENTITY USING INDEX c5_l_key",
      "UPDATE c5 SET l = 'm' || l, k = -k",
      "UPDATE c5 SET id = id + 1000 WHERE id > 50",
      #"""
      BEGIN \; UPDATE c5 SET l = 'n' || id WHERE id <= 40 \; ALTER TABLE c5 REPLICA IDENTITY FULL \;
        UPDATE c5 SET k = 5000 + id \; DELETE FROM c5 WHERE id = 50 \; COMMIT
      """#,
      "UPDATE c5 SET big = NULL, l = 'o' || id WHERE id % 3 = 0",
      "ALTER TABLE c5 REPLICA IDENTITY DEFAULT",
      "UPDATE c5 SET k = -k - 1, id = id + 1000 WHERE id > 1000",
      "UPDATE c5_wide SET v = v + 1",
      "UPDATE c5_wide SET k = k + 1 WHERE v % 2 = 0",
      "DELETE FROM c5_wide WHERE k = 3",
      "UPDATE c5_wide SET l = 'z' || l",
    ],
    [
      "UPDATE c6 SET t = 'one' WHERE ctid = (SELECT min(ctid) FROM c6 WHERE a = 1)",
      "UPDATE c6 SET a = a + 1 WHERE f IS NULL",
      "DELETE FROM c6 WHERE ctid IN (SELECT ctid FROM c6 WHERE a = 2 ORDER BY ctid LIMIT 7)",
      "UPDATE c6 SET j = NULL WHERE j::text = '{\"k\": 1}'",
      "INSERT INTO c6 SELECT * FROM c6 WHERE a = 3", "DELETE FROM c6 WHERE a = 4",
      "DELETE FROM c6_parted WHERE tableoid = 'c6_one'::regclass AND ctid = '(0,1)'",
      "UPDATE c6_parted SET j = '{}' WHERE ctid = '(0,2)'",
      "UPDATE c6_parted SET a = 2 WHERE a = 1 AND j IS NULL",
      "DELETE FROM c6_parted WHERE a = 3 AND ctid < '(0,9)'",
    ],
    [
      "UPDATE c7_keyless SET v = v + 1",
      "INSERT INTO c7_keyless VALUES (1, 10), (3, 30) ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v",
      "DELETE FROM c7_keyless WHERE ctid = (SELECT max(ctid) FROM c7_keyless WHERE k IS NULL)",
      "INSERT INTO c7_nothing VALUES (1, 100), (60, 60) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v",
      "UPDATE c7_nothing SET id = id + 100",
      "DELETE FROM c7_nothing WHERE id % 2 = 0",
      """
      MERGE INTO c7_nothing t USING (VALUES (101, 5), (500, 6)) AS s (id, v) ON t.id = s.id /*15+*/
        WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v) /*15+*/
      INSERT INTO c7_nothing VALUES (101, 5), (500, 6) ON CONFLICT (id) DO UPDATE SET v = excluded.v /*15-*/
      """,
    ],
  ]

  @Test("Case 7: what has no replica identity blocks before anything is published, and the source goes on")
  func refused() async throws {
    try await Scene.run("noidentity") { scene in
      try await scene.run(
        [
          "CREATE TABLE keyless (k int UNIQUE, v int)",
          "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, v int)",
          "CREATE TABLE nothing (id int PRIMARY KEY, v int)",
          "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        ], on: .source)
      let engine = try await scene.start()
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 3, "\(engine.errors)")
      for table in ["keyless", "late", "nothing"] {
        #expect(engine.errors.contains("table \"public\".\"\(table)\""), "\(engine.errors)")
        try await scene.source(
          "INSERT INTO \(table) VALUES (1, 1)", "UPDATE \(table) SET v = 2", "DELETE FROM \(table)")
      }
      try await scene.source("INSERT INTO keyless VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET v = 3")
      #expect(try await scene.sourceValue("SELECT count(*) FROM pg_publication") == "0")
    }
  }
}
