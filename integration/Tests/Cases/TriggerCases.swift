import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What of the user's fires for replicated changes, too.
@Suite(.serialized, .servers, .timeLimit(.minutes(5)))
struct TriggerCases {
  @Test(
    """
    Case 22: triggers and rules that fire for replicas, and event triggers, do nothing on the target
      until it \
    opens, and then are what they were, over the engine's death, too
    """)
  func held() async throws {
    try await Running.stream("triggers", tables: Self.tables) { running in
      let scene = running.scene
      #expect(try await scene.targetValue(Self.firing) == "none", "while it streams none may fire")
      try await running.source(Self.changes)
      try await running.both(["ALTER TABLE c22 ADD COLUMN later int"])
      try await running.replaceEngine()
      try await running.source(["UPDATE c22 SET later = 1", "INSERT INTO c22_parted VALUES (3, 3)"])
      try await running.settle()
      #expect(try await scene.targetValue(Self.firing) == "none")
      let states = try await scene.sourceValue(Self.states)
      #expect(states?.split(separator: ";").count ?? 0 > 10)
      try await running.expectEqualEnds()
      #expect(try await scene.targetValue(Self.states) == states)
      // They fire again for whoever writes there now.
      for (log, write) in [
        ("c22_log", "INSERT INTO c22 VALUES (1000, 0)"), ("c22_ddl", "CREATE TABLE afterwards ()"),
      ] {
        let before = try await scene.targetValue("SELECT count(*) FROM \(log)") ?? ""
        try await scene.target(write)
        #expect(try await scene.targetValue("SELECT count(*) > \(before) FROM \(log)") == "t", "\(log)")
      }
    }
  }

  @Test("Case 22: an abort that keeps the target's tables gives their triggers back what they were")
  func aborted() async throws {
    try await Running.stream("triggersabort", tables: Self.tables) { running in
      let scene = running.scene
      let states = try await scene.sourceValue(Self.states)
      let abort = try await scene.replicate.run("abort", "--yes")
      #expect(abort.exitCode == 0, "\(abort.errors)")
      _ = try await running.engine.waitForEnd(within: .seconds(30))
      #expect(try await scene.targetValue(Self.states) == states)
    }
  }

  /// Names of those that are enabled for the stream's changes or our DDL.
  private static let firing = """
    SELECT concat('none', (SELECT string_agg(tgname, ',') FROM pg_trigger WHERE tgenabled IN ('A', 'R')),
      (SELECT string_agg(rulename, ',') FROM pg_rewrite WHERE ev_enabled IN ('A', 'R')),
      (SELECT string_agg(evtname, ',') FROM pg_event_trigger WHERE evtenabled <> 'D'))
    """

  private static let states = """
    SELECT string_agg(what, ';' ORDER BY what COLLATE "C") FROM (
      SELECT tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text FROM pg_trigger
        WHERE tgname !~ '^(RI_|replicate)'
      UNION ALL SELECT ev_class::regclass || ' ' || rulename || ' ' || ev_enabled::text FROM pg_rewrite
        WHERE rulename <> '_RETURN'
      UNION ALL SELECT evtname || ' ' || evtenabled::text FROM pg_event_trigger) AS t (what)
    """

  private static let tables = [
    #"""
    CREATE TABLE c22 (id int PRIMARY KEY, v int) \; CREATE TABLE c22_log (n serial PRIMARY KEY, what
      text) \;
    CREATE TABLE c22_parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id) \;
    CREATE TABLE c22_leaf PARTITION OF c22_parted FOR VALUES FROM (0) TO (10) \;
    CREATE TABLE c22_other PARTITION OF c22_parted DEFAULT \;
    CREATE TABLE c22_ruled (id int PRIMARY KEY, v int) \; CREATE TABLE "Odd %s ""c22""" (id int PRIMARY
      KEY) \;
    CREATE FUNCTION c22_fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO public.c22_log (what) VALUES (TG_NAME || ' ' || TG_OP); RETURN NEW; END $$ \;
    CREATE FUNCTION c22_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v + 1; RETURN
      NEW; END $$ \;
    CREATE FUNCTION c22_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE
      'fired for a replica'; END $$
    """#,
    #"""
    CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON c22 FOR EACH ROW EXECUTE FUNCTION
      c22_fire() \;
    ALTER TABLE c22 ENABLE ALWAYS TRIGGER always \;
    CREATE TRIGGER more BEFORE INSERT OR UPDATE ON c22 FOR EACH ROW EXECUTE FUNCTION c22_more() \;
    ALTER TABLE c22 ENABLE ALWAYS TRIGGER more \;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON c22 EXECUTE FUNCTION
      c22_refuse() \;
    ALTER TABLE c22 ENABLE REPLICA TRIGGER refuse \;
    CREATE TRIGGER plain AFTER INSERT ON c22 FOR EACH ROW EXECUTE FUNCTION c22_fire() \;
    CREATE TRIGGER off AFTER INSERT ON c22 FOR EACH ROW EXECUTE FUNCTION c22_refuse() \;
    ALTER TABLE c22 DISABLE TRIGGER off \;
    CREATE TRIGGER "of %s parts" AFTER INSERT OR DELETE ON c22_parted FOR EACH ROW EXECUTE FUNCTION
      c22_fire() \;
    ALTER TABLE c22_parted ENABLE ALWAYS TRIGGER "of %s parts" \; ALTER TABLE c22_leaf ENABLE REPLICA
      TRIGGER "of %s parts" \;
    CREATE TRIGGER "odd ""one""" AFTER INSERT ON "Odd %s ""c22""" EXECUTE FUNCTION c22_fire() \;
    ALTER TABLE "Odd %s ""c22""" ENABLE ALWAYS TRIGGER "odd ""one""" \;
    CREATE RULE also AS ON UPDATE TO c22_ruled DO ALSO INSERT INTO c22_log (what) VALUES ('also') \;
    ALTER TABLE c22_ruled ENABLE ALWAYS RULE also \;
    CREATE RULE never AS ON DELETE TO c22_ruled DO INSTEAD NOTHING \; ALTER TABLE c22_ruled ENABLE
      REPLICA RULE never
    """#,
    #"""
    CREATE TABLE c22_ddl (n serial PRIMARY KEY, tag text) \;
    CREATE FUNCTION c22_note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO public.c22_ddl (tag) VALUES (TG_TAG); END $$ \;
    CREATE EVENT TRIGGER c22_origin ON ddl_command_end EXECUTE FUNCTION c22_note() \;
    CREATE EVENT TRIGGER c22_always ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'DROP TRIGGER')
      EXECUTE FUNCTION c22_note() \; ALTER EVENT TRIGGER c22_always ENABLE ALWAYS \;
    CREATE EVENT TRIGGER c22_replica ON sql_drop WHEN TAG IN ('DROP TRIGGER') EXECUTE FUNCTION c22_note() \;
    ALTER EVENT TRIGGER c22_replica ENABLE REPLICA \;
    CREATE EVENT TRIGGER c22_off ON ddl_command_start EXECUTE FUNCTION c22_note() \; ALTER EVENT TRIGGER
      c22_off DISABLE
    """#,
  ]

  private static let changes = [
    "INSERT INTO c22 SELECT i, i FROM generate_series(1, 50) i", "UPDATE c22 SET v = 0 WHERE id % 2 = 0",
    "UPDATE c22 SET id = id + 100 WHERE id < 5", "DELETE FROM c22 WHERE id % 3 = 0",
    "INSERT INTO c22_parted SELECT i, i FROM generate_series(4, 60) i",
    "UPDATE c22_parted SET id = id + 100 WHERE id < 8",
    "DELETE FROM c22_parted WHERE id = 9",
    "INSERT INTO \"Odd %s \"\"c22\"\"\" SELECT generate_series(1, 40)",
    "INSERT INTO c22_ruled SELECT i, i FROM generate_series(1, 50) i", "UPDATE c22_ruled SET v = v + 1",
    "DELETE FROM c22_ruled WHERE id % 2 = 0", "TRUNCATE c22",
    "INSERT INTO c22 SELECT i, i FROM generate_series(1, 50) i",
  ]
}
