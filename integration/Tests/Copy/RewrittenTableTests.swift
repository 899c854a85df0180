import Clusters
import Testing

@testable import MigrationEngine

/// Rows that become others without being changed one by one: by an ALTER TABLE that writes them anew, or
/// that gives old rows a column. No stream carries that, and older snapshots do not see the rows.
@Suite(.serialized, .servers(about: 120), .timeLimit(.minutes(5)))
struct RewrittenTableTests {
  // MARK: During the copy

  /// Each with a thousand rows and its way to be another before its turn in the copy comes.
  private static let rewrites: [(table: String, source: String, target: String?)] = [
    ("retyped", "ALTER TABLE retyped ALTER v TYPE bigint", "ALTER TABLE retyped ALTER v TYPE bigint"),
    (
      "volatile", "ALTER TABLE volatile ADD COLUMN r float DEFAULT random()",
      "ALTER TABLE volatile ADD COLUMN r float DEFAULT random()"
    ),
    ("emptied", "TRUNCATE emptied; INSERT INTO emptied VALUES (1, 1)", nil),
    ("clustered", "CLUSTER clustered USING clustered_pkey", nil),
    ("packed", "VACUUM FULL packed", nil),
    (
      "logged", "ALTER TABLE logged SET LOGGED", nil
    ),
    ("moved", "ALTER TABLE moved RENAME TO elsewhere", "ALTER TABLE moved RENAME TO elsewhere"),
    ("gone", "DROP TABLE gone", "DROP TABLE gone"),
    (
      "swapped", "ALTER TABLE swapped RENAME v TO w; ALTER TABLE swapped RENAME w2 TO v",
      "ALTER TABLE swapped RENAME v TO w; ALTER TABLE swapped RENAME w2 TO v"
    ),
    (
      "converted", "ALTER TABLE converted ALTER v TYPE int USING v * 100", nil
    ),
  ]

  @Test(
    "Tables that are written or defined anew before their turn in the copy are copied on a newer snapshot")
  func duringTheCopy() async throws {
    try await Scene.run("rewritten") { scene in
      try await scene.source(
        "CREATE TABLE big (id int PRIMARY KEY, body text)",
        "INSERT INTO big SELECT n, repeat(md5(n::text), 40) FROM generate_series(1, 6000) n")
      for (table, _, _) in Self.rewrites {
        let unlogged = table == "logged" ? "UNLOGGED " : ""
        let more = table == "swapped" ? ", w2 int DEFAULT 2" : ""
        try await scene.source(
          "CREATE \(unlogged)TABLE \(table) (id int PRIMARY KEY, v int\(more))",
          "INSERT INTO \(table) SELECT n, n FROM generate_series(1, 1000) n")
      }
      let engine = try await scene.start("--max-rate", "2MB", "--jobs", "1")
      try await scene.waitUntil("copying", engine) { $0.phase == .copy && $0.copy.bytesDone > 0 }
      for (_, source, target) in Self.rewrites {
        for statement in source.split(separator: ";") { try await scene.source(String(statement)) }
        for statement in target?.split(separator: ";") ?? [] {
          try await scene.target(String(statement))
        }
      }
      let state = try await scene.status()
      #expect(state.phase == .copy && state.copy.tablesDone == 0, "that was in time: \(state.copy)")
      try await scene.waitUntilReady(engine)
      #expect(
        engine.errors.contains("rewritten before they were copied"), "\(engine.errors.suffix(2000))")
      #expect(
        try await scene.targetValue("SELECT relpersistence FROM pg_class WHERE relname = 'logged'") == "p"
      )
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A table that was changed before its turn in the copy, on the source alone, is waited for, by name")
  func differsDuringTheCopy() async throws {
    try await Scene.run("rewrittenwait") { scene in
      try await scene.source(
        "CREATE TABLE big (id int PRIMARY KEY, body text)",
        "INSERT INTO big SELECT n, repeat(md5(n::text), 40) FROM generate_series(1, 6000) n",
        "CREATE TABLE small (id int PRIMARY KEY, v int)",
        "INSERT INTO small SELECT n, n FROM generate_series(1, 1000) n")
      let engine = try await scene.start("--max-rate", "2MB", "--jobs", "1")
      try await scene.waitUntil("copying", engine) { $0.phase == .copy && $0.copy.bytesDone > 0 }
      try await scene.source("ALTER TABLE small ALTER v TYPE text USING 'v' || v")
      try await scene.followAdvice("ALTER COLUMN \"v\" TYPE text", engine)
      #expect(try await scene.targetValue("SELECT v FROM small WHERE id = 7") == "v7")
      try await scene.expectEqualEnds(engine)
    }
  }

  // MARK: While the stream runs

  @Test("Advice for a changed table leads to the source's values in old rows, followed to the letter")
  func advice() async throws {
    try await Scene.run("advice") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, a int, v int, n varchar(5))",
        "INSERT INTO t SELECT n, n, n, n FROM generate_series(1, 500) n",
        "CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t)",
        "INSERT INTO child SELECT n, n FROM generate_series(1, 500) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      for (change, part) in [
        ("ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 7", "ADD COLUMN \"c\" integer DEFAULT '7'"),
        ("ALTER TABLE t RENAME a TO aa", "RENAME COLUMN \"a\" TO \"aa\""),
        ("ALTER TABLE t ALTER v TYPE bigint USING v * 100", "ALTER COLUMN \"v\" TYPE bigint"),
        ("ALTER TABLE t ALTER n TYPE varchar(10)", "TYPE character varying(10);"),
        ("ALTER TABLE t ADD COLUMN s serial", "CREATE SEQUENCE"),
        (
          "ALTER TABLE t ADD COLUMN g int GENERATED ALWAYS AS (id * 2) STORED",
          "GENERATED ALWAYS AS ((id * 2)) STORED"
        ),
        ("ALTER TABLE t ADD COLUMN i int GENERATED ALWAYS AS IDENTITY", "BY DEFAULT AS IDENTITY"),
        (
          "ALTER TABLE t ADD COLUMN e text; ALTER TABLE t ALTER e SET DEFAULT 'later'",
          "SET DEFAULT 'later'"
        ),
        ("ALTER TABLE t DROP COLUMN aa", "DROP COLUMN \"aa\""),
      ] {
        for statement in change.split(separator: ";") { try await scene.source(String(statement)) }
        try await scene.source(
          "INSERT INTO t (id) SELECT max(id) + 1 FROM t", "UPDATE t SET n = 'x' WHERE id = 3")
        try await scene.followAdvice(part, engine)
      }
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("Where the advice was not followed to the letter, the table is copied again")
  func otherThanAdvised() async throws {
    try await Scene.run("unadvised") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, a int)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 500) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      // A default that old rows have, forgotten.
      try await scene.source(
        "ALTER TABLE t ADD COLUMN c int DEFAULT 7", "INSERT INTO t (id) VALUES (501)")
      try await scene.waitUntil("advice", engine) { $0.stream.waitsFor != nil }
      try await scene.target("ALTER TABLE t ADD COLUMN c int")
      try await engine.waitUntil("the default in old rows", within: .seconds(30)) {
        try await scene.targetValue("SELECT count(*) FROM t WHERE c = 7") == "501"
      }
      // A new column in the place of a renamed one.
      try await scene.source("ALTER TABLE t RENAME a TO aa", "INSERT INTO t (id) VALUES (502)")
      try await scene.waitUntil("advice", engine) { $0.stream.waitsFor?.contains("RENAME") == true }
      try await scene.target("ALTER TABLE t ADD COLUMN aa int, DROP COLUMN a")
      try await engine.waitUntil("the values of the renamed column", within: .seconds(30)) {
        try await scene.targetValue("SELECT count(aa) FROM t") == "500"
      }
      try await scene.waitUntilReady(engine)
      // Its columns have another order by now.
      let content = "SELECT pg_catalog.md5(string_agg(concat_ws(',', id, aa, c), ';' ORDER BY id)) FROM t"
      #expect(try await scene.targetValue(content) == (try await scene.sourceValue(content)))
    }
  }

  @Test("Rows that were written anew with the type that they had are copied again, keys among them")
  func sameType() async throws {
    try await Scene.run("sametype") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 500) n",
        "CREATE TABLE k (id int PRIMARY KEY, v int)",
        "INSERT INTO k SELECT n, n FROM generate_series(1, 500) n",
        "CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t)",
        "INSERT INTO child SELECT n, n FROM generate_series(1, 500) n",
        "CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)",
        "INSERT INTO p SELECT n, n FROM generate_series(1, 500) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "ALTER TABLE t ALTER v TYPE int USING v * 100", "UPDATE t SET v = v + 1 WHERE id < 10",
        "ALTER TABLE k ALTER id TYPE int USING id + 1000", "UPDATE k SET v = 0 WHERE id = 1001",
        "ALTER TABLE p ALTER v TYPE int USING v * 100", "UPDATE p SET v = v + 1 WHERE id < 10")
      try await engine.waitUntil("the values that the source wrote", within: .seconds(60)) {
        try await scene.targetValue(
          """
          SELECT (SELECT count(*) FROM t WHERE v >= 100) = 500 AND (SELECT min(id) FROM k) = 1001
            AND (SELECT count(*) FROM p WHERE v >= 100) = 500
          """) == "t"
      }
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A cutover that is asked for at once finds what was written anew, and waits until it is copied")
  func cutoverAtOnce() async throws {
    try await Scene.run("rewritecut") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 500) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source("ALTER TABLE t ALTER v TYPE int USING v * 100")
      try await scene.expectEqualEnds(engine)
    }
  }

  // MARK: Definitions

  @Test("A type modifier that grows on the source stops the stream before a value is rounded")
  func modifiers() async throws {
    try await Scene.run("modifier") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp(0), price numeric(10,2), list numeric(10,2)[])",
        "INSERT INTO t VALUES (1, '2026-01-01 00:00:01', 1.5, '{1.5}')")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source(
        """
        ALTER TABLE t ALTER at TYPE timestamp(6), ALTER price TYPE numeric(12,4),
          ALTER list TYPE numeric(12,4)[]
        """, "INSERT INTO t VALUES (2, '2026-01-01 00:00:01.123456', 1.2345, '{1.2345}')")
      try await scene.followAdvice("timestamp(6)", engine)
      #expect(try await scene.targetValue("SELECT price FROM t WHERE id = 1") == "1.5000")
      #expect(
        try await scene.targetValue("SELECT at::text FROM t WHERE id = 2") == "2026-01-01 00:00:01.123456"
      )
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A table that becomes logged joins, and its copy is logged as well")
  func logged() async throws {
    try await Scene.run("setlogged") { scene in
      try await scene.source(
        "CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v int)",
        "CREATE UNLOGGED TABLE child (id int PRIMARY KEY, t int REFERENCES t)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 500) n", "INSERT INTO child VALUES (1, 1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source("ALTER TABLE t SET LOGGED", "UPDATE t SET v = 0 WHERE id = 1")
      try await engine.waitUntil("a logged copy", within: .seconds(30)) {
        try await scene.targetValue("SELECT relpersistence FROM pg_class WHERE relname = 't'") == "p"
      }
      try await engine.waitUntil("its rows", within: .seconds(30)) {
        try await scene.targetValue("SELECT count(*) FROM t WHERE v = id") == "499"
      }
      try await scene.source("UPDATE t SET v = 0 WHERE id = 2")
      try await engine.waitUntil("its changes", within: .seconds(30)) {
        try await scene.targetValue("SELECT count(*) FROM t WHERE v = 0") == "2"
      }
      try await scene.waitUntilReady(engine)
      // A target that was made unlogged would be emptied by a crash.
      try await scene.target(
        "ALTER TABLE child DROP CONSTRAINT child_t_fkey", "ALTER TABLE t SET UNLOGGED")
      try await scene.followAdvice("SET LOGGED", engine)
      try await scene.target("ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t")
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("Tables that exchange their names are known by their OIDs")
  func exchangedNames() async throws {
    try await Scene.run("exchanged") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE TABLE t_new (id int PRIMARY KEY, v int)",
        "INSERT INTO t VALUES (1, 1)", "INSERT INTO t_new VALUES (1, 10), (2, 20)")
      var engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let swap = "ALTER TABLE t RENAME TO t_old \\; ALTER TABLE t_new RENAME TO t"
      try await scene.source(swap, "INSERT INTO t VALUES (3, 30)", "INSERT INTO t_old VALUES (2, 2)")
      try await scene.waitUntil("the names", engine) { $0.stream.waitsFor?.contains("RENAME") == true }
      try await scene.target(swap)
      try await scene.waitUntilReady(engine)
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      // And back, by the advice alone, which has to go by way of a third name.
      try await scene.source(
        "ALTER TABLE t RENAME TO x \\; ALTER TABLE t_old RENAME TO t \\; ALTER TABLE x RENAME TO t_old",
        "INSERT INTO t VALUES (4, 4)", "INSERT INTO t_old VALUES (5, 50)")
      try await scene.followAdvice("being_renamed", engine)
      try await scene.expectEqualEnds(engine)
    }
  }
}
