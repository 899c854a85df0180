import Clusters
import LibPQ
import Testing

@testable import MigrationEngine

/// Changes of many rows go over in sets; whatever the types, they arrive as each by itself would.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct SetApplyTests {
  @Test(
    "Cases 15, 51, 52: values and keys of every type arrive exactly when they are changed by the many",
    arguments: ["text", "binary"])
  func everyType(form: String) async throws {
    try await Scene.run("sets_\(form)") { scene in
      try await run(EverythingDatabase.types, on: scene)
      // One type that is not the same on both ends makes all rows travel as text.
      if form == "binary" { try await run(Self.withoutOthersTypes, on: scene) }
      try await run(Self.manyRows, on: scene)
      let keys = try await run("SELECT count(*) AS n FROM pg_class WHERE relname ~ '^key_'", on: scene)
      #expect(try keys.first?.integer("n") ?? 0 > 50)
      let engine = try await scene.start("--replica-identity", "full", "--log-level", "debug")
      try await scene.waitUntilReady(engine)
      for change in ["update", "delete", "insert", "move", "mixed"] {
        try await run("SELECT change_all('\(change)')", on: scene)
      }
      try await scene.expectEqualEnds(engine)
      #expect(!engine.errors.contains("one by one"), "\(engine.errors)")
      let sent = try await ClusterPair.sourceMajor() >= 14 ? form : "text"
      #expect(engine.errors.contains("streaming in \(sent)"), "\(engine.errors)")
      #expect(!engine.errors.contains("streaming again"), "\(engine.errors)")
    }
  }

  private static let withoutOthersTypes = """
    DROP TABLE of_users, of_extensions;
    ALTER TABLE arrays DROP COLUMN l;
    ALTER TABLE built_in DROP COLUMN rc, DROP COLUMN rt, DROP COLUMN rp, DROP COLUMN ro, DROP COLUMN rn,
      DROP COLUMN rr, DROP COLUMN rg, DROP COLUMN rd, DROP COLUMN rl;
    """

  /// Every table 40 times over, with a number as its key; and for every type that can be a key a table
  /// whose key it is.
  private static let manyRows = #"""
    DO $$
    DECLARE item record;
    BEGIN
      FOR item IN SELECT relname FROM pg_class
        WHERE relname IN ('built_in', 'arrays', 'labels', 'of_users', 'of_extensions')
        ORDER BY relname
      LOOP
        EXECUTE format('CREATE TABLE many_%1$s AS SELECT (row_number() OVER ())::int AS number, t.*
          FROM %1$I t, generate_series(1, 40)', item.relname);
        EXECUTE format('ALTER TABLE many_%s ADD PRIMARY KEY (number)', item.relname);
      END LOOP;
      FOR item IN SELECT a.attname, c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relname ~ '^many_' AND c.relkind = 'r' AND a.attnum > 1
      LOOP
        BEGIN
          EXECUTE format('CREATE TABLE key_%1$s_%2$s AS
            SELECT k.%2$I AS k, s.serial AS n, 0 AS v
            FROM (SELECT DISTINCT %2$I FROM %1$I WHERE %2$I IS NOT NULL) k,
              generate_series(1, 40) AS s (serial)', item.relname, item.attname);
          EXECUTE format('ALTER TABLE key_%s_%s ADD PRIMARY KEY (k, n)', item.relname, item.attname);
        EXCEPTION
          -- No equality, or no order: no key.
          WHEN undefined_function OR undefined_object THEN NULL;
        END;
      END LOOP;
    END $$;
    CREATE FUNCTION change_all(change text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE name text; key text;
    BEGIN
      FOR name IN SELECT relname FROM pg_class WHERE relname ~ '^(many|key)_' AND relkind = 'r' LOOP
        key := CASE WHEN name ~ '^many' THEN 'number' ELSE 'n' END;
        CASE change
          WHEN 'update' THEN EXECUTE format('UPDATE %I SET %I = %2$I', name,
            (SELECT attname FROM pg_attribute WHERE attrelid = name::regclass AND attnum = 3));
            IF name ~ '^key' THEN EXECUTE format('UPDATE %I SET v = v + n', name); END IF;
          WHEN 'delete' THEN EXECUTE format('DELETE FROM %I WHERE %I %% 3 = 0', name, key);
          WHEN 'insert' THEN
            EXECUTE format('CREATE TEMP TABLE again ON COMMIT DROP AS SELECT * FROM %I', name);
            EXECUTE format('UPDATE again SET %I = %1$I + 1000', key);
            EXECUTE format('INSERT INTO %I SELECT * FROM again', name);
            DROP TABLE again;
          WHEN 'move' THEN EXECUTE format('UPDATE %I SET %I = %2$I + 10000', name, key);
          WHEN 'mixed' THEN
            EXECUTE format('UPDATE %I SET %I = %2$I - 10000 WHERE %2$I %% 2 = 0', name, key);
            EXECUTE format('DELETE FROM %I WHERE %I %% 5 = 0', name, key);
        END CASE;
      END LOOP;
    END $$;
    """#

  @Test("Case 53: values that change places under a unique index are put there one by one")
  func uniqueValues() async throws {
    try await Scene.run("places") { scene in
      try await scene.source(
        """
        CREATE TABLE seats (id int PRIMARY KEY, seat int UNIQUE, note text) \\;
        CREATE TABLE spans (id int PRIMARY KEY, span int4range, EXCLUDE USING gist (span WITH &&))
        """,
        "INSERT INTO seats SELECT n, n FROM generate_series(1, 200) n",
        "INSERT INTO spans SELECT n, int4range(n * 10, n * 10 + 5) FROM generate_series(1, 200) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      // Each moves into the place that the one before has left.
      try await scene.source(
        """
        DO $$ BEGIN
          UPDATE seats SET seat = 0 WHERE id = 200;
          FOR n IN REVERSE 199..1 LOOP UPDATE seats SET seat = n + 1, note = 'moved' WHERE id = n; END LOOP;
          UPDATE seats SET seat = 1 WHERE id = 200;
        END $$
        """,
        """
        DO $$ BEGIN
          UPDATE spans SET span = int4range(0, 1) WHERE id = 200;
          FOR n IN REVERSE 199..1 LOOP
            UPDATE spans SET span = int4range(n * 10 + 10, n * 10 + 15) WHERE id = n;
          END LOOP;
        END $$
        """)
      try await scene.expectEqualEnds(engine)
      #expect(engine.errors.contains("one by one"), "\(engine.errors)")
    }
  }

  @Test("Case 56: a row that somebody deleted on the target is found among many, and its change is named")
  func missingRow() async throws {
    try await Scene.run("missing") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT n, 0 FROM generate_series(1, 100) n")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.target("SET session_replication_role = replica", "DELETE FROM t WHERE id = 57")
      try await scene.source("UPDATE t SET v = 1")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 1)
      #expect(engine.errors.contains("UPDATE to table \"public\".\"t\""), "\(engine.errors)")
      #expect(engine.errors.contains("(\"id\") = (57)"), "the key is named: \(engine.errors)")
    }
  }

  @discardableResult
  private func run(_ script: String, on scene: Scene) async throws -> Rows {
    let connection = try await Session.open(
      LibPQ.ConnectionString(scene.databases.source.text, for: "source"), end: "source", purpose: "test")
    let fitting = try await Versions.fitting(script, major: connection.serverVersion() / 10_000)
    let rows = try await connection.query(
      "SET search_path = public; " + fitting, doing: "running what begins with \(script.prefix(40))")
    await connection.close()
    return rows
  }
}

extension Scene {
  /// Cuts over and compares everything.
  /// - Parameter accepted: differences between the schemas that are meant, by their names.
  func expectEqualEnds(_ engine: BackgroundProcess, accepting accepted: [String] = []) async throws {
    let cutover = try await replicate.run(
      ["cutover", "--yes", "--max-pause", "60s"] + accepted.flatMap { ["--accept-difference", $0] })
    #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
    _ = try await engine.waitForEnd(within: .seconds(30))
    let differences = try await DatabaseComparison().differences(
      source: databases.source, target: databases.target)
    #expect(differences == [])
  }
}
