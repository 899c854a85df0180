import Clusters
import Foundation
import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// What is no row of a table, who may be asked for less, and what a comparison leaves behind.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(4)))
struct VerifyObjectsTests {
  private static let schema = """
    CREATE TABLE t (id serial PRIMARY KEY, v text NOT NULL);
    INSERT INTO t (v) SELECT 'row ' || n FROM generate_series(1, 100) n;
    CREATE INDEX t_v_idx ON t (v);
    CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
    CREATE TABLE u (id int PRIMARY KEY, t int CONSTRAINT to_t REFERENCES t);
    CREATE TRIGGER x BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION refuses();
    CREATE VIEW seen AS SELECT v FROM t;
    CREATE MATERIALIZED VIEW summed AS SELECT count(*) AS n FROM t;
    CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
    INSERT INTO unlogged SELECT generate_series(1, 10);
    CREATE SEQUENCE counter;
    SELECT nextval('counter'), nextval('counter');
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 1500000), 'hex')), lo_from_bytea(4712, '');
    """

  @Test(
    "What is planted beside the rows is found and named",
    arguments: [
      ("", []),
      (
        "SELECT setval('counter', 1)",
        ["sequence public.counter has given 2 on the source and has given 1 on the target"]
      ),
      (
        "SELECT setval('counter', 2, false)",
        ["sequence public.counter has given 2 on the source and begins with 2 on the target"]
      ),
      ("SELECT lo_put(4711, 2000000, '\\x01')", ["large object 4711 has different content on the target"]),
      ("SELECT lo_put(4712, 0, '\\x00')", ["large object 4712 has different content on the target"]),
      ("SELECT lo_unlink(4712)", ["large object 4712 is missing on the target"]),
      ("SELECT lo_create(4713)", ["large object 4713 is missing on the source"]),
      ("DROP INDEX t_v_idx", ["index public.t_v_idx is missing on the target"]),
      ("CREATE INDEX more ON t (id, v)", ["index public.more is missing on the source"]),
      ("ALTER TABLE t DISABLE TRIGGER x", ["trigger x on public.t is disabled on the target"]),
      ("ALTER TABLE u DROP CONSTRAINT to_t", ["fk constraint to_t on public.u is missing on the target"]),
      (
        "ALTER TABLE t ALTER v DROP NOT NULL",
        [
          "table public.t is defined differently on the target (the source has: v text NOT NULL; "
            + "the target has: v text)"
        ]
      ),
      (
        "CREATE OR REPLACE VIEW seen AS SELECT v FROM t WHERE id > 0",
        ["view public.seen is defined differently on the target"]
      ),
      (
        "TRUNCATE unlogged",
        ["unlogged: -10 +0 ~0"]
      ),
      (
        "DELETE FROM t WHERE false; ALTER TABLE t DISABLE TRIGGER x; DELETE FROM t WHERE id = 1; "
          + "REFRESH MATERIALIZED VIEW summed; ALTER TABLE t ENABLE TRIGGER x",
        [
          "t: -1 +0 ~0 missing (id)=(1)",
          "(materialized view public.summed has other rows on the target, which has computed its own)",
        ]
      ),
      (
        "REFRESH MATERIALIZED VIEW summed WITH NO DATA",
        ["materialized view public.summed has no data on the target"]
      ),
    ] as [(String, [String])])
  func plantedObjects(_ planted: String, _ expected: [String]) async throws {
    try await Scene.compared("objects", Self.schema) { scene in
      try await scene.script(on: .target, planted)
      let report = try await scene.compareAll()
      var expected = expected
      // Views are not compared between versions.
      if try await !scene.isOfOneVersion() { expected.removeAll { $0.hasPrefix("view ") } }
      let lines = try await scene.lines(report)
      #expect(lines.count == expected.count, "\(report.lines)")
      for (line, start) in zip(lines, expected) { #expect(line.hasPrefix(start)) }
      #expect(report.hasDifferences == expected.contains { !$0.hasPrefix("(") })
    }
  }

  @Test("While the stream is on, what it does not carry is named, and is no difference")
  func streaming() async throws {
    try await Scene.compared("streaming", Self.schema) { scene in
      try await scene.script(
        on: .target,
        """
        SELECT setval('counter', 1), lo_put(4711, 0, '\\x01'); TRUNCATE unlogged;
        ALTER TABLE t ADD CONSTRAINT c CHECK (id > 0)
        """)
      let report = try await scene.compareAll(.streaming)
      let lines = try await scene.lines(report)
      let expected = report.objects.filter { lines.contains("(\($0.words))") }
      #expect(expected.map(\.kind) == ["sequence", "large object"])
      #expect(report.table("unlogged")?.verdict == .notCompared)
      #expect(report.table("unlogged")?.targetRows == 0 && report.table("unlogged")?.sourceRows == 10)
      let differences = report.objects.filter { !$0.isExpected }
      #expect(differences.map(\.object) == ["public.t"], "\(differences)")
    }
  }

  @Test("After a fence sequences may go on, but are there; large objects of any size are distinguished")
  func fenced() async throws {
    try await Scene.compared("fenced", Self.schema) { scene in
      try await scene.script("SELECT lo_from_bytea(5000, decode(repeat('07', 40000000), 'hex'))")
      try await scene.script(
        on: .target,
        """
        SELECT setval('counter', 1); DROP SEQUENCE t_id_seq CASCADE;
        SELECT lo_put(5000, 39999999, '\\x01'); TRUNCATE unlogged
        """)
      let report = try await scene.compare(.fenced) { $0.comparesObjects = true }
      let words = report.objects.filter { !$0.isExpected }.map(\.words)
      #expect(
        words == [
          "sequence public.t_id_seq is missing on the target",
          "large object 5000 has different content on the target",
        ])
      #expect(report.objects.filter(\.isExpected).map(\.object) == ["public.counter"])
      #expect(report.table("unlogged")?.verdict == .different)
      #expect(report.largeObjectBytes == Int64(86_000_000))
    }
  }

  @Test("What is left behind, and what a role may not read, is named and not compared")
  func leftBehind() async throws {
    try await Scene.compared("left", Self.schema) { scene in
      try await scene.script(on: .target, "SELECT lo_unlink(4711), lo_unlink(4712)")
      let report = try await scene.compare {
        $0.comparesObjects = true
        $0.comparesLargeObjects = false
        $0.excluded = [RelationName(schema: "app", name: "Left")]
      }
      #expect(report.lines == [])
      #expect(report.notes.contains { $0.contains("--without-large-objects") })
      #expect(report.notes.contains { $0.contains("--exclude-table") && $0.contains("app.\"Left\"") })
      #expect(report.largeObjectBytes == nil)
    }
  }

  @Test("A copy of a database that has everything is equal to it")
  func everything() async throws {
    try await SharedRole.with("verify") { role in
      try await Scene.compared("everything", "") { scene in
        for script in EverythingDatabase.statements(role: role) { try await scene.script(script) }
        let report = try await scene.compareAll()
        let lines = try await scene.lines(report)
        #expect(lines == [])
        #expect(report.tables.count > 40)
        #expect(report.tables.filter { $0.verdict != .equal }.map(\.name) == [])
      }
    }
  }

  @Test("Nothing of the user's runs: no cast, no operator, no hash function, no domain's check")
  func usersOwnCode() async throws {
    let script = """
      CREATE FUNCTION trap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('application_name') = 'replicate verify' THEN RAISE 'the trap was run'; END IF;
      END $$;
      CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, b text);
      CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE sql AS
        'SELECT public.trap(); SELECT ''x''::text';
      CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE sql AS
        'SELECT public.trap(); SELECT ''x''::text';
      CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood) AS IMPLICIT;
      CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair) AS IMPLICIT;
      CREATE FUNCTION pair_hash(pair) RETURNS int LANGUAGE sql IMMUTABLE AS
        'SELECT public.trap(); SELECT 1';
      CREATE FUNCTION pair_hash64(pair, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
        'SELECT public.trap(); SELECT 1::bigint';
      CREATE FUNCTION pair_equal(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS
        'SELECT public.trap(); SELECT true';
      CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_equal, HASHES);
      CREATE OPERATOR CLASS pair_ops DEFAULT FOR TYPE pair USING hash AS OPERATOR 1 =,
        FUNCTION 1 pair_hash(pair), FUNCTION 2 pair_hash64(pair, bigint);
      CREATE FUNCTION trapped(int) RETURNS bool LANGUAGE sql AS 'SELECT public.trap(); SELECT true';
      CREATE DOMAIN checked AS int CHECK (trapped(VALUE));
      CREATE TABLE t (id checked PRIMARY KEY, m mood, p pair, ms mood[]);
      INSERT INTO t VALUES (1, 'sad', '(1,a)', '{sad}'), (2, 'glad', NULL, NULL);
      CREATE TABLE by_mood (id mood PRIMARY KEY);
      INSERT INTO by_mood VALUES ('sad');
      """
    try await Scene.compared("own", script) { scene in
      try await scene.script(
        on: .target, "UPDATE t SET p = '(1,b)' WHERE id = 1; UPDATE by_mood SET id = 'glad'")
      let lines = try await scene.compare().lines
      #expect(
        lines == [
          "by_mood: -1 +1 ~0 missing (id)=(sad), extra (id)=(glad)", "t: -0 +0 ~1 different (id)=(1)",
        ])
      let id = ChangedKeys.Column(name: "id", typeOID: 23)
      let touched = try await scene.compare(of: [
        RelationName(schema: "public", name: "t"): .keys([Self.keys([id], [["1"], ["2"]])])
      ])
      #expect(touched.lines == ["t: -0 +0 ~1 different (id)=(1)"])
    }
  }

  // MARK: Less than everything

  private static func keys(_ columns: [ChangedKeys.Column], _ rows: [[String]]) -> ChangedKeys {
    var keys = ChangedKeys(columns: columns, format: .text)
    for value in rows.joined() { Array(value.utf8).withUnsafeBytes { keys.append($0) } }
    return keys
  }

  private static func keys(_ columns: [ChangedKeys.Column], binary rows: [[[UInt8]]]) -> ChangedKeys {
    var keys = ChangedKeys(columns: columns, format: .binary)
    for value in rows.joined() { value.withUnsafeBytes { keys.append($0) } }
    return keys
  }

  @Test("Only rows that were touched are looked at, whatever form their keys came in")
  func touchedRows() async throws {
    let script = """
      CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN number AS int;
      CREATE TABLE t (a number, b text, v int, PRIMARY KEY (a, b));
      INSERT INTO t SELECT n, 'k"\\' || n, n FROM generate_series(1, 1000) n;
      CREATE TABLE moods (m mood PRIMARY KEY, v int); INSERT INTO moods VALUES ('sad', 1), ('glad', 2);
      CREATE TABLE no_key (v int); INSERT INTO no_key VALUES (1);
      CREATE TABLE untouched (id int PRIMARY KEY); INSERT INTO untouched VALUES (1);
      """
    try await Scene.compared("touched", script) { scene in
      try await scene.script(
        on: .target,
        """
        UPDATE t SET v = 0 WHERE a IN (3, 4, 5); DELETE FROM t WHERE a = 6; UPDATE moods SET v = 7;
        INSERT INTO t VALUES (-1, 'extra', 0); TRUNCATE untouched; INSERT INTO no_key VALUES (1)
        """)
      let name = { RelationName(schema: "public", name: $0) }
      let key = [ChangedKeys.Column(name: "b", typeOID: 25), ChangedKeys.Column(name: "a", typeOID: 23)]
      let mood = [ChangedKeys.Column(name: "m", typeOID: 0)]
      func int(_ number: Int32) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { Array($0) } }
      let report = try await scene.compare(of: [
        name("t"): .keys([
          // One twice, one that is equal, one that is on neither end.
          Self.keys(key, [["k\"\\3", "3"], ["k\"\\3", "3"], ["k\"\\7", "7"], ["no", "0"]]),
          Self.keys(
            key,
            binary: [
              [Array("k\"\\4".utf8), int(4)], [Array("k\"\\6".utf8), int(6)],
              [Array("extra".utf8), int(-1)],
            ]),
        ]),
        name("moods"): .keys([Self.keys(mood, binary: [[Array("glad".utf8)]])]),
        name("no_key"): .all,
      ])
      #expect(
        report.lines == [
          "moods: -0 +0 ~1 different (m)=(glad)", "no_key: -0 +1 ~0 extra ctid (0,1) on the target",
          "t: -1 +1 ~2 different (a, b)=(3, k\"\\3), different (a, b)=(4, k\"\\4), "
            + "missing (a, b)=(6, k\"\\6), extra (a, b)=(-1, extra)",
        ])
      #expect(report.extent == .changed)
      #expect(report.table("t")?.sourceRows == 4 && report.table("t")?.targetRows == 4)
      #expect(report.table("no_key")?.reason?.contains("all of its rows") == true)
      let nothing = try await scene.compare(of: [:])
      #expect(nothing.tables.isEmpty && !nothing.hasDifferences)
    }
  }

  @Test("What was made ready in advance sees what came since, and new definitions once it has studied them")
  func ready() async throws {
    let script = """
      CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;
      CREATE TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (1, 1);
      """
    try await Scene.compared("ready", script) { scene in
      let id = [ChangedKeys.Column(name: "id", typeOID: 23)]
      let touched: [RelationName: ChangedRows] = [
        RelationName(schema: "public", name: "t"): .keys([Self.keys(id, [["1"], ["2"]])]),
        RelationName(schema: "public", name: "u"): .keys([Self.keys(id, [["1"]])]),
      ]
      try await scene.withReady { ready in
        try await ready.study()
        try await ready.warmUp(touched)
        #expect(try await ready.compare(rows: touched).lines == [])
        try await scene.script(on: .target, "UPDATE t SET v = 0 WHERE id = 2")
        #expect(try await ready.compare(rows: touched).lines == ["t: -0 +0 ~1 different (id)=(2)"])
        try await scene.script("ALTER TABLE u ADD w int NOT NULL DEFAULT 7")
        try await scene.script(on: .target, "UPDATE u SET w = 8")
        ready.forget()
        #expect(
          try await ready.compare(rows: touched).lines == [
            "t: -0 +0 ~1 different (id)=(2)", "u: -0 +0 ~1 different (id)=(1)",
          ])
      }
    }
  }

  @Test("Counting finds missing rows, and no other difference")
  func counts() async throws {
    try await Scene.compared("counts", Self.schema) { scene in
      try await scene.script(
        on: .target, "UPDATE t SET v = 'other'; INSERT INTO u VALUES (1, NULL); DROP INDEX t_v_idx")
      let report = try await scene.withReady { try await $0.count() }
      #expect(report.lines == ["u: -0 +1 ~0 "])
      #expect(report.table("t")?.method == .count && report.table("t")?.sourceRows == 100)
    }
  }

  // MARK: Manners

  @Test("Snapshots that others have exported are what is compared")
  func snapshots() async throws {
    try await Scene.compared("snapshots", Self.schema) { scene in
      let holder = try await Session.open(
        LibPQ.ConnectionString(scene.databases.target.text, for: "target"), end: "target", purpose: "test")
      try await holder.query("BEGIN ISOLATION LEVEL REPEATABLE READ", doing: "a test")
      let name = try await holder.query("SELECT pg_export_snapshot() AS name", doing: "a test").first?
        .text("name")
      try await scene.script(on: .target, "UPDATE t SET v = 'later'; DROP INDEX t_v_idx")
      let verification = try await scene.verification(targetSnapshot: name)
      let report = try await verification.compare()
      await holder.close()
      #expect(report.tables.allSatisfy { $0.verdict == .equal }, "\(report.lines)")
    }
  }

  @Test("A view that has taken a table's name since the snapshot runs nothing")
  func tablesOnly() async throws {
    try await Scene.compared("tablesonly", "\(Self.schema); CREATE SEQUENCE runs") { scene in
      let holder = try await SQLSession(scene.databases.target)
      let knows = "SELECT count(*) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'"
      let isKnown = try await holder.value(knows) == "1"
      try await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
      let name = try await holder.value("SELECT pg_export_snapshot()")
      try await scene.script(
        on: .target,
        """
        ALTER TABLE u RENAME TO was_u;
        CREATE FUNCTION count_run() RETURNS int LANGUAGE sql AS $$ SELECT nextval('public.runs')::int $$;
        CREATE VIEW u AS SELECT 1 AS id, count_run() AS t
        """)
      let verification = try await scene.verification(targetSnapshot: name)
      if isKnown {
        let error = try await #require(throws: PostgresError.self) { try await verification.compare() }
        #expect(error.sqlState?.rawValue == "55000", "\(error)")
      }
      await holder.close()
    }
  }

  @Test("A cancelled comparison leaves no session behind, and a limited one takes its time")
  func cancelling() async throws {
    let script = """
      CREATE TABLE big (id bigint PRIMARY KEY, filler char(500));
      INSERT INTO big SELECT n, 'x' FROM generate_series(1, 20000) n
      """
    try await Scene.compared("cancel", script) { scene in
      let unlimited = try await scene.compare()
      let bytes = unlimited.bytes
      #expect(unlimited.bytesPerSecond(jobs: 2) ?? 0 > 0 && unlimited.jobs == 2)
      let began = ContinuousClock.now
      #expect(try await scene.compare { $0.maxBytesPerSecond = bytes / 2 }.lines == [])
      #expect(ContinuousClock.now - began > .seconds(1))
      try await scene.script("SELECT lo_from_bytea(1, decode(repeat('07', 8000000), 'hex'))")
      let progress = ShownProgress()
      let objects = try await scene.verification(progress: progress) {
        $0.comparesObjects = true
        $0.maxBytesPerSecond = 16_000_000
      }
      let held = ContinuousClock.now
      let report = try await objects.compare()
      #expect(ContinuousClock.now - held > .milliseconds(1900), "they are held back as well")
      #expect(report.bytesPerSecond(jobs: 2) == nil, "who is held back shows no pace")
      #expect(progress.last?.bytesTotal == report.bytes && progress.last?.bytesDone == report.bytes)
      let slow = try await scene.verification { $0.maxBytesPerSecond = bytes / 1000 }
      let task = Task { try await slow.compare() }
      try await waitUntil("the comparison", within: .seconds(20)) { try await scene.sessions() > 0 }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      try await waitUntil("the end of its sessions", within: .seconds(10)) {
        try await scene.sessions() == 0
      }
    }
  }

  @Test("Progress is reported, and ends with everything done")
  func progress() async throws {
    try await Scene.compared("progress", Self.schema) { scene in
      let progress = ShownProgress()
      let report = try await scene.verification(progress: progress).compare()
      let last = try #require(progress.last)
      #expect(last.tablesDone == last.tablesTotal && last.tablesTotal == report.tables.count)
      #expect(last.bytesDone == last.bytesTotal && last.bytesTotal == report.bytes)
      #expect(last.rowsDone == report.tables.reduce(0) { $0 + ($1.sourceRows ?? 0) + ($1.targetRows ?? 0) })
    }
  }
}
