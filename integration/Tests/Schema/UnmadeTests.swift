import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Parts of the schema that the target's server refuses to make: they are named, the rest goes on, and they
/// are made once what is in their way is mended.
@Suite(.serialized, .servers(about: 170), .timeLimit(.minutes(4)))
struct UnmadeTests {
  /// An index, a check and a foreign key that hold on the source for its catalogs alone.
  private static let broken = [
    "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t SELECT n, n FROM generate_series(1, 50) n",
    "CREATE INDEX t_v ON t (v)", "INSERT INTO t VALUES (100, 4711), (101, 4711)",
    "UPDATE pg_index SET indisunique = true WHERE indexrelid = 't_v'::regclass",
    "COMMENT ON INDEX t_v IS 'of v'", "CREATE INDEX t_id_v ON t (id, v)",
    "CREATE TABLE checked (id int PRIMARY KEY, v int)", "INSERT INTO checked VALUES (1, -4712)",
    "ALTER TABLE checked ADD CONSTRAINT positive CHECK (v > 0) NOT VALID",
    "UPDATE pg_constraint SET convalidated = true WHERE conname = 'positive'",
    "CREATE TABLE parent (a int, b int, PRIMARY KEY (a, b))",
    """
    CREATE TABLE child (id int PRIMARY KEY, a int, b int,
      CONSTRAINT child_parent FOREIGN KEY (a, b) REFERENCES parent)
    """, "INSERT INTO parent VALUES (1, 1)",
    """
    SET session_replication_role = replica \\;
    INSERT INTO child VALUES (1, 1, 1), (2, 1, NULL), (3, 4713, 1), (4, 4713, 2)
    """,
    "CREATE TABLE plain (id int PRIMARY KEY, t int REFERENCES t)", "INSERT INTO plain VALUES (1, 1)",
  ]

  private static let names = ["index public.t_v", "fk constraint child_parent on public.child"]
  /// pg_dump writes a check into its table's definition.
  private static let notCopied =
    "table \"public\".\"checked\" is not copied: the target refuses one of its rows"

  /// The statements that list rows on the source.
  private static func listings(_ waitsFor: String) -> [String] {
    waitsFor.split(separator: "\n").compactMap { line in
      line.firstRange(of: "The rows, on the source: ").map { String(line[$0.upperBound...]) }
    }
  }

  @Test("What rows refuse is named without them, the stream goes on, and what the source mends is made")
  func mended() async throws {
    try await Scene.run("unmade") { scene in
      for sql in Self.broken { try await scene.source(sql) }
      try await Self.expectFinding(scene)
      let engine = try await scene.start()
      try await scene.waitUntil("named", engine) { status in
        status.phase == .streaming && !status.ready
          && Self.names.allSatisfy { status.stream.waitsFor?.contains("\($0) is missing") == true }
          && status.stream.waitsFor?.contains(Self.notCopied) == true
      }
      let waitsFor = try #require(try await scene.status().stream.waitsFor)
      #expect(!waitsFor.contains("471") && !engine.errors.contains("471"), "\(waitsFor)\(engine.errors)")
      let rows = "2 rows of public.child (a, b) reference no row of public.parent (a, b)"
      #expect(waitsFor.contains("\(rows), by key (id): (3), (4): "), "\(waitsFor)")
      // The rest of the schema is there, and what is written comes.
      let rest = "SELECT count(*) FROM pg_constraint WHERE conname = 'plain_t_fkey' AND convalidated"
      #expect(try await scene.targetValue(rest) == "1")
      #expect(try await scene.targetValue("SELECT to_regclass('t_id_v') IS NOT NULL") == "t")
      try await scene.source("INSERT INTO t VALUES (60, 60)")
      try await engine.waitUntil("the row", within: .seconds(20)) {
        try await scene.targetValue("SELECT count(*) FROM t WHERE id = 60") == "1"
      }
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      #expect(refused.errors.contains(Self.notCopied), "\(refused.errors)")
      // The advice lists the rows, whose keys are what is to be deleted.
      let listings = Self.listings(waitsFor)
      #expect(listings.count == 1, "\(waitsFor)")
      for listing in listings {
        let ids = listing.replacing("SELECT c.*", with: "SELECT c.id").replacing(";", with: "")
        try await scene.source("DELETE FROM child WHERE id IN (\(ids))")
      }
      #expect(try await scene.sourceValue("SELECT count(*) FROM child") == "2")
      try await scene.source("UPDATE checked SET v = 1")
      try await scene.waitUntil("one left", engine) {
        $0.stream.waitsFor?.contains("t_v") == true && $0.stream.waitsFor?.contains("child") == false
          && $0.stream.waitsFor?.contains(Self.notCopied) == false
      }
      let again = try await scene.replicate.run("cutover", "--yes")
      #expect(again.exitCode == 5, "\(again.output)\(again.errors)")
      #expect(again.errors.contains("--accept-difference 'index public.t_v'"), "\(again.errors)")
      try await scene.source("DELETE FROM t WHERE id = 101")
      try await scene.waitUntilReady(engine)
      #expect(try await scene.targetValue("SELECT obj_description('t_v'::regclass)") == "of v")
      let left = "SELECT count(*) FROM replicate.unmade"
      #expect(try await scene.targetValue(left) == "0")
      try await scene.expectEqualEnds(engine)
    }
  }

  /// The check names the rows before anything is touched, and its statement lists them.
  private static func expectFinding(_ scene: Scene) async throws {
    let check = try await scene.replicate.run("check", "--json", "--allow-unencrypted-target")
    struct Report: Decodable { var findings: [Finding] }
    let report = try JSONDecoder().decode(Report.self, from: Data(check.output.utf8))
    let findings = report.findings.filter { $0.check == "foreign_key_rows" }
    #expect(findings.map(\.object) == [#"table "public"."child""#], "\(check.output)")
    let finding = try #require(findings.first)
    #expect(finding.severity == .warning && finding.why.contains("by key (id): (3), (4)"), "\(finding)")
    #expect(finding.remedy.contains("--accept-difference '\(Self.names[1])'"), "\(finding)")
    let listing = try #require(finding.remedy.firstMatch(of: /SELECT c\.\* (.*);/)?.output.1)
    #expect(try await scene.sourceValue("SELECT string_agg(c.id::text, ',') \(listing)") == "3,4")
  }

  @Test(
    "Before both ends are looked at, and while a refused table is tried again, the engine is not ready",
    arguments: [1, 2])
  func notReadyUnseen(turn: Int) async throws {
    try await Scene.run("notready") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE checked (id int PRIMARY KEY, v int)",
        "INSERT INTO checked VALUES (1, -1)",
        "ALTER TABLE checked ADD CONSTRAINT positive CHECK (v > 0) NOT VALID",
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'positive'")
      let point = try await HoldingPoint("before looking for tables in turn \(turn)")
      let engine = try await scene.start(meeting: point.failpoint)
      // The second turn comes later the longer the first one took.
      try await point.wait(for: engine, within: .seconds(90))
      try await scene.waitUntil("all that is known of the lag", engine) {
        $0.phase == .streaming && $0.stream.predictedPauseSeconds != nil && $0.stream.lagBytes == 0
      }
      let status = try await scene.status()
      #expect(!status.ready && status.stream.waitsFor != nil, "\(status.stream)")
      try point.release()
      try await scene.source("UPDATE checked SET v = 1")
      try await scene.waitUntilReady(engine)
    }
  }

  @Test("An engine that is started again, and an object that is dropped on the source, are no different")
  func dropped() async throws {
    try await Scene.run("unmadedrop") { scene in
      for sql in Self.broken { try await scene.source(sql) }
      var engine = try await scene.start()
      try await scene.waitUntil("named", engine) { $0.phase == .streaming && $0.stream.waitsFor != nil }
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0)
      try await scene.source(
        "DROP INDEX t_v", "ALTER TABLE checked RENAME TO renamed", "UPDATE renamed SET v = 1")
      try await scene.target("ALTER TABLE checked RENAME TO renamed")
      engine = try await scene.start()
      try await scene.waitUntil("one left", engine) { status in
        status.phase == .streaming && status.stream.waitsFor?.contains("child_parent") == true
          && !(status.stream.waitsFor?.contains("t_v") ?? true)
          && !(status.stream.waitsFor?.contains("positive") ?? true)
      }
      let check = "SELECT count(*) FROM pg_constraint WHERE conname = 'positive' AND convalidated"
      #expect(try await scene.targetValue(check) == "1")
      try await scene.source("INSERT INTO parent VALUES (4713, 1), (4713, 2)")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A foreign key that is accepted by its name opens for new rows alone")
  func acceptedForeignKey() async throws {
    try await Scene.run("notvalid") { scene in
      for sql in Self.broken { try await scene.source(sql) }
      try await scene.source("DELETE FROM t WHERE id = 101", "UPDATE checked SET v = 1")
      let engine = try await scene.start()
      try await scene.waitUntil("named", engine) {
        $0.phase == .streaming && $0.stream.waitsFor?.contains("child_parent") == true
      }
      let cutover = try await scene.replicate.run(
        "cutover", "--yes", "--accept-difference", "fk constraint child_parent on public.child")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let valid = "SELECT convalidated FROM pg_constraint WHERE conname = 'child_parent'"
      #expect(try await scene.targetValue(valid) == "f")
      let insert = "INSERT INTO child VALUES (9, 9, 9)"
      #expect(try await scene.refusal(of: insert, on: scene.databases.target) == "23503")
      #expect(try await scene.targetValue("SELECT count(*) FROM child") == "4")
    }
  }

  @Test("A table whose replica identity cannot be built is held back alone, and copied once it is mended")
  func identity() async throws {
    try await Scene.run("unmadeidentity") { scene in
      try await scene.source(
        "CREATE TABLE t (id int NOT NULL, v int)", "CREATE INDEX t_id ON t (id)",
        "INSERT INTO t VALUES (1, 1), (4711, 2), (4711, 3)",
        "UPDATE pg_index SET indisunique = true WHERE indexrelid = 't_id'::regclass",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_id", "CREATE TABLE other (id int PRIMARY KEY)",
        "INSERT INTO other VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntil("held back", engine) { status in
        status.phase == .streaming && !status.ready
          && status.stream.waitsFor?.contains("table \"public\".\"t\" is not copied") == true
      }
      let waitsFor = try #require(try await scene.status().stream.waitsFor)
      #expect(!waitsFor.contains("4711") && !engine.errors.contains("4711"), "\(waitsFor)\(engine.errors)")
      try await scene.source(
        "UPDATE t SET v = 9 WHERE id = 1", "INSERT INTO other VALUES (2)", "INSERT INTO t VALUES (5, 5)")
      try await engine.waitUntil("the row of another table", within: .seconds(20)) {
        try await scene.targetValue("SELECT count(*) FROM other") == "2"
      }
      #expect(try await scene.replicate.run("cutover", "--yes").exitCode == 5)
      try await scene.source(
        "DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t WHERE id = 4711)", "UPDATE t SET v = v + 1")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A new table whose trigger calls a new function joins, and the trigger when the function is there")
  func newFunction() async throws {
    try await Scene.run("newfunction") { scene in
      try await scene.source("CREATE TABLE old (id int PRIMARY KEY)", "INSERT INTO old VALUES (1)")
      var engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let function =
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := 7; RETURN NEW; END'"
      let table = "CREATE TABLE fresh (id int PRIMARY KEY, old int REFERENCES old, v int)"
      let trigger = "CREATE TRIGGER stamped BEFORE INSERT ON fresh FOR EACH ROW EXECUTE FUNCTION stamp()"
      try await scene.source(function, table, trigger, "INSERT INTO fresh VALUES (1, 1)")
      let named = "trigger stamped on public.fresh is missing on the target: function public.stamp()"
      try await scene.waitUntil("named", engine) {
        $0.stream.waitsFor?.contains(named) == true && !$0.ready
      }
      try await scene.source("INSERT INTO old VALUES (2)", "INSERT INTO fresh VALUES (2, 2)")
      try await engine.waitUntil("both rows", within: .seconds(20)) {
        try await scene.targetValue("SELECT count(*) || ' ' || sum(v) FROM fresh, old") == "4 28"
      }
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      engine = try await scene.start()
      try await scene.waitUntil("named again", engine) {
        $0.phase == .streaming && $0.stream.waitsFor?.contains(named) == true
      }
      try await scene.target(function)
      try await scene.waitUntilReady(engine)
      // A release that is run on both ends.
      let release = [
        "CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TABLE second (id int PRIMARY KEY, v int)", "CREATE INDEX second_v ON second (v)",
        "CREATE TRIGGER twice BEFORE INSERT ON second FOR EACH ROW EXECUTE FUNCTION twice()",
      ]
      for sql in release { try await scene.source(sql) }
      for sql in release { _ = try? await scene.target(sql) }
      try await scene.source("INSERT INTO second VALUES (1)")
      try await engine.waitUntil("the row of the second", within: .seconds(60)) {
        try await scene.targetValue("SELECT count(*) FROM second") == "1"
      }
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A foreign server that the target's wrapper refuses is left with what needs it, until it is made")
  func foreignServer() async throws {
    try await Scene.run("unmadeserver") { scene in
      try await scene.source(
        "CREATE EXTENSION postgres_fdw", "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)",
        "CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere')",
        "CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS (user 'x')",
        "CREATE FOREIGN TABLE distant (id int) SERVER there",
        "CREATE VIEW seen AS SELECT id FROM distant", "COMMENT ON VIEW seen IS 'far'",
        "UPDATE pg_foreign_server SET srvoptions = '{host=nowhere,other=1}'")
      let engine = try await scene.start()
      try await scene.waitUntil("named", engine) { status in
        status.phase == .streaming && !status.ready
          && ["server there", "foreign table public.distant", "view public.seen"].allSatisfy {
            status.stream.waitsFor?.contains("\($0) is missing on the target") == true
          }
      }
      #expect(try await scene.targetValue("SELECT count(*) FROM t") == "1")
      try await scene.source("ALTER SERVER there OPTIONS (DROP other)")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
      #expect(try await scene.targetValue("SELECT obj_description('seen'::regclass)") == "far")
    }
  }

  @Test("Rows that name a table or an index wait for it, in the copy and in the stream")
  func names() async throws {
    try await Scene.run("regclass") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE INDEX t_v ON t (v)",
        "CREATE TABLE named (id int PRIMARY KEY, what regclass)",
        "INSERT INTO named VALUES (1, 't'), (2, 't_v')")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      #expect(try await scene.targetValue("SELECT string_agg(what::text, ' ') FROM named") == "t t_v")
      // A new table, which comes by itself.
      try await scene.source(
        "CREATE TABLE fresh (id int PRIMARY KEY) \\; INSERT INTO named VALUES (3, 'fresh')")
      try await engine.waitUntil("the row that names it", within: .seconds(60)) {
        try await scene.targetValue("SELECT what FROM named WHERE id = 3") == "fresh"
      }
      // An index, which does not.
      let index = "CREATE INDEX t_late ON t (v, id)"
      try await scene.source(index, "INSERT INTO named VALUES (4, 't_late')")
      try await scene.waitUntil("a status that names it", engine) {
        $0.stream.waitsFor?.contains("relation \"public.t_late\" does not exist") == true && !$0.ready
      }
      try await scene.target(index)
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("Comments on what calls users' functions arrive with it")
  func comments() async throws {
    try await Scene.run("latecomments") { scene in
      try await scene.source(
        "CREATE FUNCTION pos(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 > 0'",
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "ALTER TABLE t ADD CONSTRAINT ck CHECK (pos(v)) NOT VALID", "COMMENT ON CONSTRAINT ck ON t IS 'c'",
        "CREATE INDEX by_pos ON t (pos(v))", "COMMENT ON INDEX by_pos IS 'i'",
        "CREATE MATERIALIZED VIEW mv AS SELECT id, v FROM t", "CREATE INDEX mvf ON mv (pos(v))",
        "COMMENT ON INDEX mvf IS 'm'", "CREATE DOMAIN dm AS int",
        "ALTER DOMAIN dm ADD CONSTRAINT inv CHECK (VALUE > 0) NOT VALID",
        "COMMENT ON CONSTRAINT inv ON DOMAIN dm IS 'd'")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
      try await scene.expectEqualEnds(engine)
    }
  }
}
