import Clusters
import Testing

@testable import MigrationEngine

/// Changes of every kind, applied while the target follows, compared at the end.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct StreamTests {
  @Test(
    "Cases 1–9, 19–21: keys, TOAST, partitions, missing keys, generated columns and TRUNCATE arrive exactly"
  )
  func everyChange() async throws {
    try await Scene.run("changes") { scene in
      try await scene.source(Self.tables)
      let engine = try await scene.start("--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      for change in Self.changes { try await scene.source(change) }
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
      let differences = try await DatabaseComparison().differences(
        source: scene.databases.source, target: scene.databases.target)
      #expect(differences == [])
    }
  }

  private static let tables = """
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy') \\;
    CREATE DOMAIN positive AS int CHECK (VALUE > 0) \\;
    CREATE TYPE pair AS (a int, b text) \\;
    CREATE TABLE typed (
      id mood, n positive, p pair, j json, jb jsonb, a text[], aa int[][], num numeric, f float8, by bytea,
      ts timestamptz, d date, iv interval, r int4range, u uuid, b bit(3), vb varbit, c char(5), x xml,
      PRIMARY KEY (id, n)) \\;
    CREATE TABLE toast (id int PRIMARY KEY, big text, small int) \\;
    ALTER TABLE toast ALTER big SET STORAGE EXTERNAL \\;
    INSERT INTO toast SELECT i, repeat(md5(i::text), 10000), 0 FROM generate_series(1, 5) i \\;
    CREATE TABLE nokey (a int, j json, big text) \\;
    INSERT INTO nokey SELECT 1, '{"k": 1}', NULL FROM generate_series(1, 3) \\;
    CREATE TABLE generated (
      id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, w int, h int,
      area int GENERATED ALWAYS AS (w * h) STORED) \\;
    INSERT INTO generated (w, h) SELECT i, i FROM generate_series(1, 10) i \\;
    CREATE TABLE parted (id int, region text, v int, PRIMARY KEY (id, region))
      PARTITION BY LIST (region) \\;
    CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu') \\;
    CREATE TABLE parted_rest PARTITION OF parted DEFAULT \\;
    CREATE TABLE parent (id int PRIMARY KEY) \\;
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE) \\;
    INSERT INTO parent SELECT generate_series(1, 10) \\;
    INSERT INTO child SELECT i, i FROM generate_series(1, 10) i \\;
    CREATE TABLE doomed (id serial PRIMARY KEY) \\;
    INSERT INTO doomed SELECT generate_series(1, 10) \\;
    CREATE TABLE swapped (id int PRIMARY KEY, pos int UNIQUE DEFERRABLE INITIALLY DEFERRED) \\;
    INSERT INTO swapped SELECT i, i FROM generate_series(1, 4) i \\;
    CREATE UNLOGGED TABLE scratch (id int) \\;
    INSERT INTO scratch SELECT generate_series(1, 50) \\;
    CREATE TABLE "Odd ""n"" ame" ("Sélect" int PRIMARY KEY, " trailing " text) \\;
    CREATE TABLE nothing () \\;
    CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM parent \\;
    CREATE TABLE fired (n int PRIMARY KEY) \\;
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN
        INSERT INTO public.fired SELECT coalesce(max(n), 0) + 1 FROM public.fired;
        RETURN NEW;
      END $$ \\;
    CREATE TRIGGER fire AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION fire()
    """

  private static let changes = [
    """
    INSERT INTO typed VALUES
      ('sad', 1, '(1,"a,b")', '{"a":1, "a":2}', '{"b": [1, null]}', '{x,NULL,"q\\"uo\\\\te"}',
       '{{1,2},{3,4}}', 0.00000000000000006938893903907228, '-0', '\\x00ff5c', 'infinity',
       '0044-03-15 BC', '1 mon -3 days 04:05:06.7',
       '[1,5)', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', B'101', B'1', 'ab', '<a/>'),
      ('ok', 2, NULL, NULL, NULL, NULL, NULL, 'NaN', 'NaN', '', '-infinity', NULL, NULL, 'empty',
       NULL, NULL, NULL, '', NULL)
    """,
    "UPDATE typed SET id = 'happy', num = 'NaN' WHERE id = 'sad'",
    "UPDATE toast SET small = 1", "UPDATE toast SET big = 'short' WHERE id = 2",
    "UPDATE toast SET id = id + 100 WHERE id = 3",
    "UPDATE nokey SET a = 2 WHERE ctid = (SELECT min(ctid) FROM nokey)",
    "UPDATE nokey SET big = repeat('z', 100000) WHERE a = 2", "UPDATE nokey SET j = '[]' WHERE a = 2",
    "DELETE FROM nokey WHERE ctid = (SELECT max(ctid) FROM nokey WHERE a = 1)",
    "INSERT INTO generated (w, h) VALUES (3, 4)", "UPDATE generated SET id = DEFAULT WHERE w = 2",
    "UPDATE generated SET h = 7 WHERE w = 3", "DELETE FROM generated WHERE w = 5",
    """
    INSERT INTO parted SELECT i, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END, i
      FROM generate_series(1, 20) i
    """,
    "UPDATE parted SET region = 'eu' WHERE id = 7", "DELETE FROM parted WHERE id > 15",
    "DELETE FROM parent WHERE id = 4", "INSERT INTO parent VALUES (20), (21)",
    "UPDATE parent SET id = id", "TRUNCATE doomed RESTART IDENTITY", "INSERT INTO doomed DEFAULT VALUES",
    "UPDATE swapped SET pos = 5 - pos",
    "INSERT INTO \"Odd \"\"n\"\" ame\" VALUES (1, 'x')",
    "UPDATE \"Odd \"\"n\"\" ame\" SET \" trailing \" = E'\\\\N'",
    "INSERT INTO nothing DEFAULT VALUES", "INSERT INTO scratch VALUES (51)",
    """
    BEGIN \\; INSERT INTO parent VALUES (99) \\;
    SAVEPOINT s \\; INSERT INTO parent VALUES (98) \\; ROLLBACK TO s \\; COMMIT
    """,
    "TRUNCATE parted", "INSERT INTO parted VALUES (1, 'eu', 1)",
  ]

  @Test("Case 56: a row that somebody deleted on the target stops the stream with its table named")
  func foreignWrite() async throws {
    try await Scene.run("foreign") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      #expect(try await scene.refusal(of: "DELETE FROM t", on: scene.databases.target) == "25006")
      try await scene.target("SET session_replication_role = replica", "DELETE FROM t")
      try await scene.source("UPDATE t SET v = 1")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 1)
      #expect(engine.errors.contains("UPDATE to table \"public\".\"t\""), "\(engine.errors)")
      let status = try await scene.status()
      #expect(status.phase == .failed)
      #expect(status.failure?.contains("touched 0 rows") == true)
      // It may have been none of them: what else to look for is said as well.
      for cause in [
        "anything that wrote there", "ENABLE ALWAYS", "row security", "type, modifier or collation",
      ] {
        #expect(status.failure?.contains(cause) == true, "\(cause): \(status.failure ?? "")")
      }
    }
  }

  @Test("Case 37: a slot that somebody else advanced or dropped is refused, with the way out")
  func lostSlot() async throws {
    try await Scene.run("slot") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      var engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
      try await scene.source(
        "INSERT INTO t VALUES (1)",
        """
        SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots
        WHERE database = current_database()
        """)
      engine = try await scene.start()
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 1)
      #expect(engine.errors.contains("somebody else has read from it"), "\(engine.errors)")
      try await scene.source(
        """
        SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE database = current_database()
        """
      )
      engine = try await scene.start()
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 1)
      #expect(engine.errors.contains("no longer exists"), "\(engine.errors)")
    }
  }
}
