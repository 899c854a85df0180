import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// No stream carries what is made of a schema during the migration: a cutover that left it behind would end
/// with a target that lacks it.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(5)))
struct SchemaCutoverTests {
  private static let base = [
    "CREATE TABLE t (id int PRIMARY KEY, v varchar(10), w int, x int)",
    "INSERT INTO t SELECT n, 'a', n, n FROM generate_series(1, 100) n",
    "CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TABLE by_list (id int PRIMARY KEY) PARTITION BY LIST (id)",
    "CREATE TABLE one PARTITION OF by_list FOR VALUES IN (1)", "CREATE SEQUENCE counter",
    "CREATE VIEW seen AS SELECT id FROM t", "CREATE PUBLICATION theirs FOR TABLE t",
    "CREATE TYPE mood AS ENUM ('sad', 'glad')", "CREATE MATERIALIZED VIEW summed AS SELECT 1 AS one",
  ]

  /// What is made on the source, what it is named as, and what makes the same of the target where no remedy
  /// is given; nil: it is.
  private static func made(by role: String, in database: String) -> [(String, [String], String?)] {
    let everywhere = [
      "ALTER TABLE t ALTER v SET DEFAULT 'none', ALTER w SET NOT NULL",
      "CREATE FUNCTION made(a int) RETURNS int LANGUAGE sql AS 'SELECT a'",
      "CREATE OR REPLACE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
      "CREATE OR REPLACE VIEW seen AS SELECT id FROM t WHERE id > 1",
      "CREATE VIEW another AS SELECT 1 AS one",
      "CREATE MATERIALIZED VIEW another_sum AS SELECT 1 AS one",
      "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
      "CREATE RULE quiet AS ON DELETE TO t DO ALSO NOTHING",
      "CREATE POLICY mine ON t USING (v IN ('a', 'b'))",
      "COMMENT ON TABLE t IS 'a comment'", "ALTER TYPE mood ADD VALUE 'meh'",
      "ALTER DATABASE \(database) SET work_mem = '7MB'", "COMMENT ON DATABASE \(database) IS 'a comment'",
      "ALTER VIEW seen OWNER TO \(role)", "DROP SEQUENCE counter",
    ]
    let stated: [(String, String)] = [
      ("CREATE UNIQUE INDEX t_w ON t (w)", "index public.t_w"),
      (
        "ALTER TABLE t ADD CONSTRAINT small CHECK (w < 1000) NOT VALID",
        "check constraint small on public.t"
      ),
      ("ALTER TABLE t ADD CONSTRAINT single UNIQUE (w)", "constraint single on public.t"),
      ("ALTER TABLE t ADD CONSTRAINT up FOREIGN KEY (x) REFERENCES t", "fk constraint up on public.t"),
      ("ALTER TABLE t CLUSTER ON t_pkey", "constraint t_pkey on public.t"),
      ("GRANT SELECT ON t TO \(role)", "privileges of table public.t"),
      ("GRANT CREATE ON SCHEMA public TO \(role)", "privileges of schema public"),
      ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO \(role)", "default privileges for tables"),
      ("CREATE SEQUENCE other", "sequence public.other"), ("CREATE SCHEMA later", "schema later"),
      ("CREATE TYPE color AS ENUM ('red')", "type public.color"),
      (
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION passes()",
        "trigger x on public.t"
      ),
      ("CREATE STATISTICS of_t ON w, x FROM t", "statistics public.of_t"),
      ("ALTER PUBLICATION theirs ADD TABLE one", "publication table public.theirs one"),
      ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "row security public.t"),
      ("CREATE EXTENSION citext", "extension citext"),
      ("ALTER DATABASE \(database) CONNECTION LIMIT 50", "connection limit of the database"),
      ("GRANT CREATE ON DATABASE \(database) TO \(role)", "privilege CREATE of \(role) on the database"),
    ]
    let named: [[String]] = [
      ["table public.t"], ["function public.made(integer)"], ["function public.passes()"],
      ["view public.seen"], ["view public.another"], ["materialized view public.another_sum"],
      ["domain public.positive"], ["rule quiet on public.t"], ["policy mine on public.t"],
      ["comment on table public.t"], ["type public.mood"], ["setting work_mem of the database"],
      ["comment of the database"], [], ["sequence public.counter"],
    ]
    return zip(everywhere, named).map { ($0, $1, $0) } + stated.map { ($0.0, [$0.1], nil) }
  }

  @Test(
    "Whatever was made on the source midway is named, and refuses rehearsal and cutover until it is mended")
  func everyKind() async throws {
    try await SharedRole.with("madelater") { role in
      try await Scene.run("madelater") { scene in
        for sql in Self.base { try await scene.source(sql) }
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        let made = Self.made(by: role, in: scene.databases.name)
        for (sql, _, _) in made { try await scene.source(sql) }
        let names = Set(made.flatMap(\.1))
        var said = ""
        for options in [["--dry-run"], []] {
          let refused = try await scene.replicate.run(["cutover", "--yes"] + options)
          #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
          said = refused.errors
          let cutover = try #require(try await scene.status().cutover)
          #expect(Set(cutover.schemaDifferences?.map(\.name) ?? []) == names)
          #expect(cutover.schemaDifferences?.allSatisfy { !$0.isAccepted } == true)
          #expect(cutover.timeline.map(\.step) == ["compare schemas"])
          for name in names { #expect(said.contains("\n    \(name) "), "\(name) in: \(said)") }
        }
        // Nothing was armed, and the source is as it was.
        let guards = "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^replicate'"
        #expect(try await scene.sourceValue(guards) == "0")
        try await scene.source("DELETE FROM t WHERE id = 100")

        let remedies = Self.remedies(in: said)
        #expect(remedies.count == made.count { $0.2 == nil }, "\(said)")
        for sql in made.compactMap(\.2) + remedies { try await scene.target(sql) }
        let cutover = try await scene.replicate.run("cutover", "--yes")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(cutover.output.contains("compare schemas"), "\(cutover.output)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        let outcome = try #require(try await scene.report().cutovers.last?.outcome)
        #expect(outcome.timeline.first?.step == "compare schemas")
        #expect(outcome.schemaDifferences == nil && outcome.warnings == nil, "\(outcome)")
      }
    }
  }

  private static func remedies(in text: String) -> [String] {
    text.split(separator: "\n").compactMap { line in
      line.hasPrefix("      on the target: ") ? String(line.dropFirst("      on the target: ".count)) : nil
    }
  }

  @Test("What is accepted by its name does not keep a cutover from being done, and stays in the report")
  func accepted() async throws {
    try await Scene.run("accepted") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source("CREATE INDEX \"T v\" ON t (v)", "CREATE VIEW seen AS SELECT 1 AS one")
      let view = "view public.seen"
      let half = try await scene.replicate.run("cutover", "--yes", "--accept-difference", view)
      #expect(half.exitCode == 5, "\(half.output)\(half.errors)")
      #expect(half.errors.contains("--accept-difference 'index public.T v'"), "\(half.errors)")
      #expect(!half.errors.contains("\(view) is"), "\(half.errors)")
      let cutover = try await scene.replicate.run(
        "cutover", "--yes", "--accept-difference", view, "--accept-difference", "index public.T v",
        "--accept-difference", "index public.nothing")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let last = try #require(try await scene.report().cutovers.last)
      #expect(last.outcome?.schemaDifferences?.map(\.isAccepted) == [true, true])
      #expect(
        last.outcome?.warnings == [
          "accepted: index public.T v is missing on the target",
          "accepted: view public.seen is missing on the target",
          "--accept-difference 'index public.nothing' names no difference of the schemas",
        ])
      let people = try await scene.replicate.run("report")
      #expect(people.output.contains("--accept-difference 'view public.seen'"), "\(people.output)")
      #expect(people.output.contains("accepted: view public.seen is missing"), "\(people.output)")
    }
  }

  @Test("A cutover that begins by itself goes by what the engine was given to accept")
  func automatic() async throws {
    try await Scene.run("acceptedauto") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let first = try await scene.start()
      try await scene.waitUntilReady(first)
      first.terminate()
      #expect(try await first.waitForEnd(within: .seconds(20)) == 0)
      try await scene.source("CREATE VIEW seen AS SELECT 1 AS one")
      let wrong = try await scene.start("--accept-difference", "view public.seen")
      #expect(try await wrong.waitForEnd(within: .seconds(20)) == 64, "it is asked for by 'cutover' then")
      let engine = try await scene.start(
        "--cutover", "auto", "--accept-difference", "view public.seen")
      #expect(try await engine.waitForEnd(within: .seconds(60)) == 0, "\(engine.errors)")
      let warnings = try await scene.report().cutovers.last?.outcome?.warnings
      #expect(warnings == ["accepted: view public.seen is missing on the target"])
    }
  }

  @Test("What changes between the comparison and the fence is found as well")
  func beforeTheFence() async throws {
    try await Scene.run("lateschema") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let point = try await HoldingPoint("before arm")
      let engine = try await scene.start(meeting: point.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await point.wait(for: engine)
      // What sessions have for themselves, and what is ours, is no change.
      let late = "CREATE FUNCTION late() RETURNS int LANGUAGE sql AS 'SELECT 1'"
      try await scene.source(late)
      try point.release()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 5, "\(cutover.output)")
      #expect(
        cutover.errors.contains("function public.late() is missing on the target"), "\(cutover.errors)")
      #expect(try await scene.sourceValue("SELECT state FROM replicate.fence()") == "open")
      try await scene.target(late)
      let again = try await scene.replicate.run("cutover", "--yes")
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
    }
  }

  @Test(
    "Tables that stay behind, what sessions have for themselves and what the target had before are none")
  func ofOthers() async throws {
    try await Scene.run("schemaothers") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)",
        "CREATE TABLE behind (id serial PRIMARY KEY, v text)", "CREATE TABLE no_key (v int)",
        "CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
      try await scene.target("CREATE EXTENSION citext", "COMMENT ON EXTENSION citext IS 'theirs'")
      let engine = try await scene.start("--exclude-table", "public.behind", "--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "ALTER TABLE behind ADD w int CHECK (w > 0), ALTER v SET NOT NULL", "CREATE INDEX ON behind (v)",
        "GRANT SELECT ON behind TO PUBLIC", "COMMENT ON COLUMN behind.v IS 'x'")
      let session = try await SQLSession(scene.databases.source)
      try await session.execute("CREATE TEMPORARY TABLE own (id int)")
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      await session.close()
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let outcome = try #require(try await scene.report().cutovers.last?.outcome)
      #expect(outcome.schemaDifferences == nil && outcome.warnings == nil, "\(outcome)")
    }
  }

  @Test(
    "Triggers that fire for replicated changes open as they are on the source by then, and never before")
  func triggers() async throws {
    try await Scene.run("latetriggers") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE log (n serial PRIMARY KEY, id int)",
        """
        CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql
          AS 'BEGIN INSERT INTO public.log (id) VALUES (NEW.id); RETURN NULL; END'
        """, "CREATE TRIGGER first AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION logs()",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER first", "INSERT INTO t VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "ALTER TABLE t DISABLE TRIGGER first",
        "CREATE TRIGGER second AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION logs()",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER second")
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      let remedies = Self.remedies(in: refused.errors)
      #expect(remedies.count == 1 && remedies[0].hasSuffix("DISABLE TRIGGER second;"), "\(refused.errors)")
      for sql in remedies { try await scene.target(sql) }
      try await scene.source("INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let states = """
        SELECT string_agg(tgname || ' ' || tgenabled::text, ', ' ORDER BY tgname) FROM pg_trigger
        WHERE tgname IN ('first', 'second')
        """
      #expect(try await scene.targetValue(states) == "first D, second A")
      let differences = try await DatabaseComparison().differences(
        source: scene.databases.source, target: scene.databases.target)
      #expect(differences == [], "none has fired twice")
    }
  }

  @Test("What was made on the target after the cutover, and is not on the source, refuses the rollback")
  func reverseReplication() async throws {
    try await Running.back(
      "schemaback",
      prepare: [
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)",
        "INSERT INTO t (v) VALUES ('a')", "CREATE TABLE no_key (v int)",
        "CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION passes()",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER x",
      ], options: ["--replica-identity", "full"]
    ) { back in
      let scene = back.scene
      let rehearsal = try await scene.replicate.run("rollback", "--dry-run", "--yes")
      #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)\(back.engine.errors)")
      #expect(try await scene.status().cutover?.warnings == nil)
      let view = "CREATE VIEW seen AS SELECT 1 AS one"
      try await scene.target("CREATE UNIQUE INDEX t_v ON t (v)", view)
      let refused = try await scene.replicate.run("rollback", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      #expect(refused.errors.contains("index public.t_v is missing on the source"), "\(refused.errors)")
      let index = "CREATE UNIQUE INDEX t_v ON public.t USING btree (v);"
      #expect(refused.errors.contains("\n      on the source: \(index)"), "\(refused.errors)")
      #expect(refused.errors.contains("SET default_transaction_read_only = off;"), "\(refused.errors)")
      #expect(try await back.isWritable(.target, "INSERT INTO t (v) VALUES ('b')"))
      try await back.define(index)
      let rollback = try await scene.replicate.run(
        "rollback", "--yes", "--accept-difference", "view public.seen")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(back.engine.errors)")
      #expect(try await back.engine.waitForEnd(within: .seconds(30)) == 0, "\(back.engine.errors)")
      let outcome = try #require(try await back.report().cutovers.last?.outcome)
      #expect(outcome.warnings == ["accepted: view public.seen is missing on the source"])
      #expect(outcome.direction == .back && outcome.timeline.first?.step == "compare schemas")
    }
  }
}
