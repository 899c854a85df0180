import Clusters
import Testing

@testable import MigrationEngine

/// Tables of every shape, and what holds them together.
@Suite(.serialized, .servers, .timeLimit(.minutes(5)))
struct TableCases {
  @Test(
    """
    Cases 16–19, 21, 24, 28: holes, 1,600 columns, odd names, TRUNCATE, foreign keys, inheritance, row
      security
    """,
    arguments: Pace.allCases)
  func tables(_ pace: Pace) async throws {
    try await Running.stream("tables", tables: Self.tables) { running in
      try await running.source(Self.changes, pace)
      let scene = running.scene
      try await scene.expectEqual(
        "SELECT string_agg(id::text || v, ',' ORDER BY id) FROM ONLY c24_parent")
      #expect(
        try await scene.targetValue("SELECT count(*) FROM c21_fired")
          == scene.sourceValue("SELECT count(*) FROM c21_fired"))
      try await running.expectEqualEnds()
    }
  }

  /// 63 bytes of two-byte letters and one more.
  private static let longest = String(repeating: "é", count: 31) + "e"

  private static let tables = [
    #"""
    CREATE TABLE c16_holes (gone1 int, id int PRIMARY KEY, gone2 text, v int, gone3 int[], w text) \;
    INSERT INTO c16_holes SELECT i, i, 'x', i, '{1}', 'w' FROM generate_series(1, 50) i \;
    ALTER TABLE c16_holes DROP COLUMN gone1, DROP COLUMN gone2, DROP COLUMN gone3, ADD COLUMN late int
      DEFAULT 7 \;
    DO $$ BEGIN
      EXECUTE 'CREATE TABLE c16_wide (id int PRIMARY KEY, ' || (SELECT string_agg('c' || i || ' int',
        ', ') FROM generate_series(1, 1599) i) || ')';
      INSERT INTO c16_wide (id, c1, c1599) SELECT i, i, -i FROM generate_series(1, 60) i;
    END $$ \;
    CREATE TABLE c17_nothing () \; CREATE TABLE c17_empty (id int PRIMARY KEY) \; CREATE TABLE
      c17_filled (id bigint PRIMARY KEY, v int) \;
    CREATE TABLE c17_sparse (id bigint PRIMARY KEY, v int) \;
    INSERT INTO c17_sparse VALUES (-9223372036854775808, 1), (-5, 1), (0, 1), (9223372036854775807, 1) \;
    INSERT INTO c17_nothing DEFAULT VALUES \; INSERT INTO c17_nothing DEFAULT VALUES
    """#,
    #"""
    CREATE SCHEMA _ \; CREATE SCHEMA "Sch""ema %s" \;
    CREATE TABLE _._ (_ int PRIMARY KEY, "_ " text, " _" text) \; CREATE TABLE "Sch""ema %s"."Sélect"
      ("Sélect" int PRIMARY KEY, "sélect" text, "SÉLECT" text) \;
    CREATE TABLE "select" ("from" int PRIMARY KEY, "user" text, "order" text, "order by" text) \;
    CREATE TABLE c18 (id int PRIMARY KEY, "Id" int, "ID" int, "a""b" text, "per%cent" text, "$1" text,
      "tab	and 'quote'" text, "back\slash" text, "(a, b)" text) \;
    CREATE TABLE "C18" (id int PRIMARY KEY, v text) \; CREATE TABLE "c18 " (id int PRIMARY KEY, v text)
      \; CREATE TABLE "c18." (id int PRIMARY KEY, v text)
    """#,
    "CREATE TABLE \"\(longest)\" (\"\(longest)\" int PRIMARY KEY, \"\(longest.dropLast())\" text)",
    #"""
    CREATE TABLE c19_a (id serial PRIMARY KEY, v int) \; CREATE TABLE c19_b (id int PRIMARY KEY, a int
      REFERENCES c19_a ON DELETE CASCADE) \;
    CREATE TABLE c19_c (id int PRIMARY KEY, b int REFERENCES c19_b) \; CREATE TABLE c19_alone (id int
      PRIMARY KEY) \;
    CREATE TABLE c19_parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id) \; CREATE TABLE c19_low
      PARTITION OF c19_parted FOR VALUES FROM (0) TO (100) \;
    CREATE TABLE c19_high PARTITION OF c19_parted FOR VALUES FROM (100) TO (1000) PARTITION BY RANGE (id) \;
    CREATE TABLE c19_higher PARTITION OF c19_high FOR VALUES FROM (100) TO (500) \; CREATE TABLE
      c19_highest PARTITION OF c19_high DEFAULT \;
    INSERT INTO c19_a (v) SELECT i FROM generate_series(1, 50) i \; INSERT INTO c19_b SELECT i, i FROM
      generate_series(1, 50) i \;
    INSERT INTO c19_c SELECT i, i FROM generate_series(1, 50) i \; INSERT INTO c19_alone SELECT
      generate_series(1, 50) \;
    INSERT INTO c19_parted SELECT i, i FROM generate_series(1, 999) i
    """#,
    #"""
    CREATE TABLE c21_parent (id int PRIMARY KEY, self int REFERENCES c21_parent ON DELETE SET NULL,
      child int) \;
    CREATE TABLE c21_child (id int PRIMARY KEY, parent int REFERENCES c21_parent ON DELETE CASCADE ON
      UPDATE CASCADE, other int DEFAULT 1 REFERENCES c21_parent ON DELETE SET DEFAULT) \;
    ALTER TABLE c21_parent ADD FOREIGN KEY (child) REFERENCES c21_child DEFERRABLE INITIALLY DEFERRED \;
    INSERT INTO c21_parent SELECT i, NULLIF(i - 1, 0), NULL FROM generate_series(1, 100) i \; INSERT
      INTO c21_child SELECT i, i, i FROM generate_series(1, 100) i \;
    UPDATE c21_parent SET child = id WHERE id > 50 \;
    CREATE TABLE c21_loose (id int PRIMARY KEY, parent int) \; INSERT INTO c21_loose SELECT i, i * 1000
      FROM generate_series(1, 20) i \;
    ALTER TABLE c21_loose ADD FOREIGN KEY (parent) REFERENCES c21_parent NOT VALID \;
    CREATE TABLE c21_fired (n serial PRIMARY KEY, what text) \;
    CREATE FUNCTION c21_fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.c21_fired
      (what) VALUES (TG_OP); RETURN NULL; END $$ \;
    CREATE TRIGGER c21_row AFTER INSERT OR UPDATE OR DELETE ON c21_child FOR EACH ROW EXECUTE FUNCTION
      c21_fire() \;
    CREATE CONSTRAINT TRIGGER c21_late AFTER INSERT ON c21_child DEFERRABLE INITIALLY DEFERRED FOR EACH
      ROW EXECUTE FUNCTION c21_fire() \;
    CREATE TRIGGER c21_statement BEFORE TRUNCATE ON c21_child FOR EACH STATEMENT EXECUTE FUNCTION c21_fire()
    """#,
    #"""
    CREATE TABLE c24_parent (id int PRIMARY KEY, v text) \; CREATE TABLE c24_child (extra int, PRIMARY
      KEY (id)) INHERITS (c24_parent) \;
    CREATE TABLE c24_second () INHERITS (c24_child) \;
    INSERT INTO c24_parent SELECT i, 'p' FROM generate_series(1, 50) i \; INSERT INTO c24_child SELECT
      i, 'c', i FROM generate_series(1, 50) i \;
    INSERT INTO c24_second SELECT i, 's', i FROM generate_series(1, 50) i \;
    CREATE TYPE c24_type AS (id int, v text) \; CREATE TABLE c24_typed OF c24_type (PRIMARY KEY (id)) \;
    CREATE TABLE c24_ruled (id int PRIMARY KEY, v text) \; CREATE TABLE c24_ruling (n serial PRIMARY
      KEY, id int) \;
    CREATE RULE c24_also AS ON INSERT TO c24_ruled DO ALSO INSERT INTO c24_ruling (id) VALUES (NEW.id) \;
    CREATE RULE c24_instead AS ON DELETE TO c24_ruled WHERE OLD.id < 0 DO INSTEAD NOTHING \;
    CREATE TABLE c24_secure (id int PRIMARY KEY, v text) \; ALTER TABLE c24_secure ENABLE ROW LEVEL
      SECURITY, FORCE ROW LEVEL SECURITY \;
    CREATE POLICY nobody ON c24_secure USING (false) \; INSERT INTO c24_secure SELECT i, 'kept' FROM
      generate_series(1, 50) i \;
    CREATE SEQUENCE c28_cached CACHE 100 \; CREATE SEQUENCE c28_down INCREMENT -3 MAXVALUE -1 \; CREATE
      SEQUENCE c28_cycle MAXVALUE 5 CYCLE \;
    CREATE SEQUENCE c28_last MAXVALUE 3 \; CREATE SEQUENCE c28_uncalled START 40 \; CREATE SCHEMA c28 \;
      CREATE SEQUENCE c28.c28_down
    """#,
  ]

  private static let changes = [
    [
      "UPDATE c16_holes SET v = v + 1, late = NULL WHERE id % 2 = 0",
      "INSERT INTO c16_holes (id, w) SELECT i, 'new' FROM generate_series(51, 120) i",
      "UPDATE c16_holes SET w = w || '!'",
      "DELETE FROM c16_holes WHERE id % 5 = 0",
      "UPDATE c16_wide SET c800 = id, c1599 = NULL WHERE id = 1",
      "UPDATE c16_wide SET c2 = c1, c1598 = 5",
      "INSERT INTO c16_wide (id, c700) SELECT i, i FROM generate_series(61, 130) i",
      "DELETE FROM c16_wide WHERE id % 3 = 0",
      "INSERT INTO c17_nothing DEFAULT VALUES",
      "DO $$ BEGIN FOR i IN 1..40 LOOP INSERT INTO c17_nothing DEFAULT VALUES; END LOOP; END $$",
      "DELETE FROM c17_nothing WHERE ctid = (SELECT min(ctid) FROM c17_nothing)",
      "INSERT INTO c17_filled SELECT i * 1000000007::bigint, 1 FROM generate_series(-50, 50) i",
      "UPDATE c17_filled SET v = 2, id = id + 1 WHERE id > 0",
      "UPDATE c17_sparse SET v = v + 1",
      "UPDATE c17_sparse SET id = id + 1 WHERE id < 0",
      "DELETE FROM c17_sparse WHERE id = 0",
    ],
    [
      "INSERT INTO _._ SELECT i, ' ', E'\\\\N' FROM generate_series(1, 50) i",
      "UPDATE _._ SET \"_ \" = \" _\" WHERE _ % 2 = 0",
      "DELETE FROM _._ WHERE _ = 3",
      #"INSERT INTO "Sch""ema %s"."Sélect" SELECT i, 'a', 'b' FROM generate_series(1, 50) i"#,
      #"UPDATE "Sch""ema %s"."Sélect" SET "Sélect" = "Sélect" + 100, "SÉLECT" = "sélect""#,
      #"INSERT INTO "select" SELECT i, 'u', 'o', 'b' FROM generate_series(1, 50) i"#,
      #"UPDATE "select" SET "order" = "order by", "from" = -"from""#,
      #"DELETE FROM "select" WHERE "from" > -10"#,
      #"INSERT INTO c18 SELECT i, i, -i, 'a', '%', '$', 't', '\', '()' FROM generate_series(1, 50) i"#,
      #"UPDATE c18 SET "Id" = "ID", "$1" = "back\slash", "per%cent" = '%s'"#,
      #"INSERT INTO "C18" VALUES (1, 'upper')"#,
      #"INSERT INTO "c18 " VALUES (1, 'blank')"#,
      #"INSERT INTO "c18." VALUES (1, 'dot')"#,
      #"UPDATE "C18" SET v = NULL"#,
      #"UPDATE "c18 " SET id = 2"#,
      "INSERT INTO \"\(longest)\" SELECT i, 'x' FROM generate_series(1, 50) i",
      "UPDATE \"\(longest)\" SET \"\(longest)\" = \"\(longest)\" + 1000, \"\(longest.dropLast())\" = 'y'",
    ],
    [
      "TRUNCATE c19_alone",
      "INSERT INTO c19_alone SELECT generate_series(1, 40)",
      #"""
      BEGIN \; INSERT INTO c19_alone VALUES (100) \; TRUNCATE c19_alone \; INSERT INTO c19_alone VALUES
        (101) \; COMMIT
      """#,
      #"""
      BEGIN \; SAVEPOINT s \; TRUNCATE c19_alone \; ROLLBACK TO s \; INSERT INTO c19_alone VALUES (102)
        \; COMMIT
      """#,
      "TRUNCATE c19_low",
      "INSERT INTO c19_parted SELECT i, 0 FROM generate_series(1, 60) i",
      "TRUNCATE c19_high",
      "INSERT INTO c19_parted SELECT i, 1 FROM generate_series(100, 600) i",
      "TRUNCATE c19_highest, c19_low",
      "UPDATE c19_parted SET id = id + 450 WHERE id < 300",
      "TRUNCATE c19_a RESTART IDENTITY CASCADE",
      "INSERT INTO c19_a (v) SELECT i FROM generate_series(1, 40) i",
      "INSERT INTO c19_b SELECT i, i FROM generate_series(1, 40) i",
      "TRUNCATE c19_b, c19_c",
      "INSERT INTO c19_b SELECT i, i FROM generate_series(1, 40) i",
      "DELETE FROM c19_a WHERE id < 10",
      #"""
      BEGIN \; TRUNCATE ONLY c19_c \; INSERT INTO c19_c SELECT i, i FROM generate_series(20, 30) i \;
        COMMIT
      """#,
    ],
    [
      "DELETE FROM c21_parent WHERE id BETWEEN 2 AND 20",
      #"""
      BEGIN \; INSERT INTO c21_parent VALUES (200, 200, 200) \; INSERT INTO c21_child VALUES (200, 200,
        200) \; COMMIT
      """#,
      "UPDATE c21_parent SET id = id + 1000 WHERE id BETWEEN 30 AND 40 AND false",
      "UPDATE c21_child SET parent = 1 WHERE id > 90",
      "DELETE FROM c21_parent WHERE id = 25",
      "INSERT INTO c21_loose VALUES (100, 1)",
      "UPDATE c21_loose SET id = id + 500 WHERE parent = 1",
      "DELETE FROM c21_loose WHERE id = 3",
      "TRUNCATE c21_loose",
      "INSERT INTO c21_child SELECT i, 1, 1 FROM generate_series(1000, 1050) i",
      "DELETE FROM c21_child WHERE id >= 1000",
    ],
    [
      "UPDATE c24_parent SET v = v || id",
      "UPDATE ONLY c24_parent SET v = 'only', id = id + 100 WHERE id % 2 = 0",
      "DELETE FROM ONLY c24_parent WHERE id < 10",
      "DELETE FROM c24_parent WHERE id = 20",
      "UPDATE c24_child SET extra = -extra",
      "UPDATE ONLY c24_second SET v = 'second'",
      "TRUNCATE ONLY c24_child",
      "INSERT INTO c24_child SELECT i, 'again', 0 FROM generate_series(1, 60) i",
      "INSERT INTO c24_typed SELECT i, 'typed' FROM generate_series(1, 50) i",
      "UPDATE c24_typed SET v = NULL WHERE id > 25",
      "INSERT INTO c24_ruled SELECT i, 'ruled' FROM generate_series(-40, 40) i",
      "DELETE FROM c24_ruled WHERE id % 2 = 0",
      "UPDATE c24_ruled SET v = 'x'",
      "UPDATE c24_secure SET v = 'changed'",
      "DELETE FROM c24_secure WHERE id % 3 = 0",
      "INSERT INTO c24_secure SELECT i, 'new' FROM generate_series(100, 150) i",
      "SELECT nextval('c28_cached')",
      "SELECT nextval('c28_down') FROM generate_series(1, 4)",
      "SELECT nextval('c28_cycle') FROM generate_series(1, 7)",
      "SELECT nextval('c28_last') FROM generate_series(1, 3)",
      "SELECT setval('c28_uncalled', 77, false)",
      "SELECT nextval('c28.c28_down')",
    ],
  ]
}
