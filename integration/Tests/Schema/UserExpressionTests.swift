import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What users wrote is evaluated on the target as their own sessions evaluate it.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(4)))
struct UserExpressionTests {
  /// What depends on a schema that is found by the path: the same names in several schemas.
  private static func schema(_ schema: String, owner: String, words: String) -> [String] {
    [
      "CREATE SCHEMA \(schema) AUTHORIZATION \(owner)",
      "CREATE TABLE \(schema).a_lookup (word text PRIMARY KEY, rank int, padding text)",
      """
      INSERT INTO \(schema).a_lookup SELECT '\(words)' || n, n, repeat('x', 1000)
      FROM generate_series(1, 99) n
      """,
      """
      CREATE FUNCTION \(schema).known(text) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN RETURN EXISTS (SELECT FROM a_lookup WHERE word = $1); END'
      """,
      """
      CREATE FUNCTION \(schema).rank(text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN (SELECT l.rank FROM a_lookup l WHERE word = $1); END'
      """,
      """
      CREATE TABLE \(schema).t (id int PRIMARY KEY, word text CHECK (\(schema).known(word)), at timestamptz,
        small int, day text GENERATED ALWAYS AS (public.day_of(at)) STORED)
      """,
      """
      CREATE FUNCTION \(schema).whole(\(schema).t) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN RETURN known($1.word); END'
      """,
      // pg_dump brings it after the rows: the function needs the table, and the table the function.
      "ALTER TABLE \(schema).t ADD CONSTRAINT whole CHECK (\(schema).whole(t))",
      "CREATE INDEX t_rank ON \(schema).t (\(schema).rank(word))",
      "CREATE UNIQUE INDEX t_some ON \(schema).t (word, id) WHERE \(schema).rank(word) > 50",
      """
      ALTER TABLE \(schema).t
        ADD CONSTRAINT apart EXCLUDE USING btree ((\(schema).rank(word) * 1000 + id) WITH =)
      """,
      "CREATE STATISTICS \(schema).t_stats ON word, (\(schema).rank(word)) FROM \(schema).t",
      """
      CREATE TABLE \(schema).parts (id int, word text) PARTITION BY RANGE (id);
      """,
      "CREATE TABLE \(schema).parts_low PARTITION OF \(schema).parts FOR VALUES FROM (0) TO (1000)",
      "CREATE INDEX ON \(schema).parts (\(schema).rank(word))",
      "ALTER TABLE \(schema).parts_low REPLICA IDENTITY FULL",
      "ALTER TABLE \(schema).a_lookup OWNER TO \(owner)", "ALTER TABLE \(schema).t OWNER TO \(owner)",
      "ALTER TABLE \(schema).parts OWNER TO \(owner)", "ALTER TABLE \(schema).parts_low OWNER TO \(owner)",
    ]
  }

  private static func definitions(_ main: String, _ other: String, database: String) -> [String] {
    [
      "ALTER DATABASE \(database) SET TimeZone = 'Asia/Tokyo'",
      "ALTER DATABASE \(database) SET app.least = '3'",
      // It says immutable and is not: what the application's sessions compute is what the index holds.
      """
      CREATE FUNCTION public.day_of(timestamptz) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN $1::date::text; END'
      """,
      "CREATE DOMAIN public.enough AS int CHECK (VALUE >= current_setting('app.least')::int)",
    ] + schema(main, owner: main, words: "main") + schema("elsewhere", owner: other, words: "other") + [
      "ALTER TABLE \(main).t ALTER COLUMN small TYPE public.enough",
      "ALTER TABLE elsewhere.t ALTER COLUMN small TYPE public.enough",
      // The main owner's schema is found as "$user", the other's by the role's own path.
      "ALTER ROLE \(other) SET search_path = elsewhere", "ALTER ROLE \(other) SET app.least = '7'",
      "CREATE TABLE \(main).more (id int PRIMARY KEY)", "ALTER TABLE \(main).more OWNER TO \(main)",
    ]
  }

  private static func insert(
    _ ids: ClosedRange<Int>, _ schema: String, _ words: String, least: Int
  ) -> [String] {
    [
      """
      INSERT INTO \(schema).t SELECT n, '\(words)' || n % 99 + 1,
        timestamptz '2024-01-01 20:00:00+00' + n * interval '1 hour', \(least)
      FROM generate_series(\(ids.lowerBound), \(ids.upperBound)) n
      """,
      """
      INSERT INTO \(schema).parts SELECT n, '\(words)' || n % 99 + 1
      FROM generate_series(\(ids.lowerBound), \(ids.upperBound)) n
      """,
    ]
  }

  /// As the owner's own session: its role's settings are those of who logs in, so they are repeated here.
  private static func write(
    _ statements: [String], as owner: String, path: String, least: Int, on server: Clusters.ConnectionString
  ) async throws {
    let session = try await SQLSession(
      server, settings: ["search_path": path, "app.least": "\(least)", "TimeZone": "Asia/Tokyo"])
    for sql in statements { try await session.execute(sql) }
    await session.close()
  }

  @Test("Checks, domains, generated columns, indexes and statistics find what their owners' sessions find")
  func evaluated() async throws {
    try await SharedRole.with("exprmain") { main in
      try await SharedRole.with("exprother") { other in
        try await Scene.run("expressions") { scene in
          let ends = scene.databases
          let database = quotedIdentifier(ends.name)
          for sql in Self.definitions(main, other, database: database) {
            try await scene.source("SET app.least = '3' \\; \(sql)")
          }
          func write(
            _ ids: ClosedRange<Int>, on server: Clusters.ConnectionString, and more: String = ""
          ) async throws {
            try await Self.write(
              Self.insert(ids, main, "main", least: 3), as: main, path: main, least: 3, on: server)
            try await Self.write(
              Self.insert(ids, "elsewhere", "other", least: 7), as: other, path: "elsewhere", least: 7,
              on: server)
            guard !more.isEmpty else { return }
            for (schema, least) in [(main, 3), ("elsewhere", 7)] {
              try await Self.write(
                ["UPDATE \(schema).t \(more)"], as: main, path: schema, least: least, on: server)
            }
          }
          try await write(1...80, on: ends.source)
          let engine = try await scene.start(reverse: true)
          try await scene.waitUntilReady(engine)
          try await write(101...101, on: ends.source)
          try await write(201...260, on: ends.source, and: "SET at = at + interval '5 hours' WHERE id < 60")
          try await write(301...301, on: ends.source, and: "SET small = small + 1 WHERE id = 1")
          // One that is made meanwhile.
          try await Self.write(
            [
              "CREATE TABLE \(main).late (id int PRIMARY KEY, word text CHECK (\(main).known(word)))",
              "CREATE INDEX late_rank ON \(main).late (\(main).rank(word))",
              "ALTER TABLE \(main).late OWNER TO \(main)", "INSERT INTO \(main).late VALUES (1, 'main1')",
            ], as: main, path: main, least: 3, on: ends.source)
          try await engine.waitUntil("the new table", within: .seconds(60)) {
            try await scene.targetValue("SELECT count(*) FROM pg_class WHERE relname = 'late_rank'")
              == "1"
          }
          try await scene.waitUntilReady(engine)
          let verify = try await scene.replicate.run("verify")
          #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)\(engine.errors)")
          let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
          #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
          try await expectEqual(ends)
          try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }

          // The same in reverse replication, now with the target's settings.
          try await scene.target("ALTER DATABASE \(database) SET app.least = '2'")
          try await Self.write(
            Self.insert(401...440, main, "main", least: 2), as: main, path: main, least: 2, on: ends.target)
          let count = "SELECT count(*) FROM \(main).t WHERE small = 2"
          try await engine.waitUntil("the rows on the source", within: .seconds(30)) {
            try await scene.sourceValue(count) == "40"
          }
          try await expectEqual(ends)
          let finish = try await scene.replicate.run("finish", "--yes")
          #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
          #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
          let ranked = """
            SELECT count(*) FROM pg_class
            WHERE relname IN ('t_rank', 't_some', 'apart', 'parts_low_rank_idx', 'late_rank')
            """
          #expect(try await scene.targetValue(ranked) == "9")
        }
      }
    }
  }

  private func expectEqual(_ ends: FreshDatabases) async throws {
    let differences = try await DatabaseComparison().differences(source: ends.source, target: ends.target)
    #expect(differences == [])
  }

  @Test(
    "What only an application's own sessions know is named, and once it is mended the migration goes on")
  func unknowable() async throws {
    try await Scene.run("unknowable") { scene in
      let session = try await SQLSession(scene.databases.source, settings: ["app.here": "1"])
      for sql in [
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n",
        // Not what is tried before the migration, but a row long after it.
        """
        CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
          'BEGIN RETURN CASE WHEN $1 < 1000 THEN 1 ELSE current_setting(''app.here'')::int END; END'
        """,
        "CREATE INDEX t_f ON t (f(v))",
      ] { try await session.execute(sql) }
      await session.close()
      let engine = try await scene.start()
      let words = ["t_f", "unrecognized configuration parameter \"app.here\"", "ALTER FUNCTION … SET"]
      try await scene.waitUntil("named", engine) { status in
        !status.ready && words.allSatisfy { status.stream.waitsFor?.contains($0) == true }
      }
      let remedy = "ALTER FUNCTION f(int) SET app.here = '1';"
      try await scene.source(remedy)
      try await scene.target(remedy)
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
      let index = "SELECT count(*) FROM pg_class WHERE relname = 't_f'"
      #expect(try await scene.targetValue(index) == "1")
    }
  }

  @Test("Rows that the target could not take are found by trying some, and are taken once it is mended")
  func tried() async throws {
    try await Scene.run("tried") { scene in
      let database = quotedIdentifier(scene.databases.name)
      let session = try await SQLSession(
        scene.databases.source, settings: ["app.least": "1"])
      for sql in [
        "CREATE SCHEMA hidden", "SET search_path = hidden, public",
        "CREATE TABLE hidden.word (word text PRIMARY KEY)",
        "INSERT INTO hidden.word VALUES ('a')",
        """
        CREATE FUNCTION hidden.known(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
          'BEGIN RETURN EXISTS (SELECT FROM word w WHERE w.word = $1); END'
        """,
        "CREATE DOMAIN public.least AS int CHECK (VALUE >= current_setting('app.least')::int)",
        """
        CREATE TABLE public.\"T t\" (id int PRIMARY KEY, w text CONSTRAINT is_known CHECK (hidden.known(w)),
          least public.least, more int CONSTRAINT is_more CHECK (more > current_setting('app.least')::int),
          g boolean GENERATED ALWAYS AS (hidden.known(w)) STORED, free text CHECK (length(free) < 9))
        """.replacing("\\\"", with: "\""),
        "CREATE INDEX by_known ON public.\"T t\" (hidden.known(w), id)",
        """
        INSERT INTO public."T t" (id, w, least, more) SELECT n, 'a', n, n + 1 FROM generate_series(1, 9) n
        """,
      ] { try await session.execute(sql) }
      await session.close()
      func findings() async throws -> [Finding] {
        try await Preflight.check(
          source: scene.databases.source, target: scene.databases.target
        ).findings("tried_expressions")
      }
      let found = try await findings()
      let table = "of table \"public\".\"T t\""
      #expect(
        Set(found.map(\.object)) == [
          "check \"is_known\" \(table)", "check \"is_more\" \(table)", "column \"least\" \(table)",
          "column \"g\" \(table)", "index \"by_known\" \(table)",
        ], "\(found)")
      #expect(found.allSatisfy { $0.severity == .blocker && !$0.why.contains("'a'") }, "\(found)")
      try await scene.source(
        "ALTER DATABASE \(database) SET app.least = '5'",
        "ALTER FUNCTION hidden.known(text) SET search_path = hidden")
      // Rows that are there are refused under what the database gives.
      let refused = try await findings()
      #expect(Set(refused.map(\.object)).count == 2, "\(refused)")
      try await scene.source("ALTER DATABASE \(database) SET app.least = '1'")
      #expect(try await findings() == [])
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A library that only the source has locks nobody out of the target")
  func preloadedLibrary() async throws {
    try await Scene.run("preloaded") { fresh in
      let databases = fresh.databases
      let database = quotedIdentifier(databases.name)
      let without = databases.source.with(["options": "-c session_preload_libraries="])
      try await fresh.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)",
        "ALTER DATABASE \(database) SET work_mem = '7MB'",
        "ALTER DATABASE \(database) SET session_preload_libraries = 'only_here'",
        "ALTER DATABASE \(database) SET app.last = 'here'")
      let scene = Scene(
        databases: databases, replicate: ReplicateProcess(source: without, target: databases.target))
      let check = try await scene.replicate.run(
        ["check"] + ClusterPair.shared.encryptionArguments)
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      #expect(check.output.contains("only_here"), "\(check.output)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      #expect(engine.errors.contains("no session could begin any more"), "\(engine.errors)")
      let stored = try await fresh.targetValue(
        """
        SELECT array_to_string(setconfig, ' ')
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase
        WHERE datname = current_database() AND setrole = 0
        """)
      #expect(stored == "work_mem=7MB app.last=here")
      // What was left out is not forgotten.
      let refused = try await scene.replicate.run("cutover", "--yes")
      let name = "setting session_preload_libraries of the database"
      #expect(refused.exitCode == 5 && refused.errors.contains(name), "\(refused.errors)")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--accept-difference", name)
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
    }
  }
}
