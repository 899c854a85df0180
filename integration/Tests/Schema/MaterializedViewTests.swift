import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Materialized views give on the target what they give on the source, under the same settings and role.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct MaterializedViewTests {
  /// Each depends on something that pg_restore's session has not: a path, a role, a time zone.
  private static func views(owner: String, database: String) -> [String] {
    func make(_ view: String) -> String {
      "SET ROLE \(owner) \\; CREATE MATERIALIZED VIEW app.\(view) \\; RESET ROLE"
    }
    return [
      "CREATE SCHEMA app AUTHORIZATION \(owner)",
      "ALTER DATABASE \(database) SET search_path = app, public",
      "ALTER DATABASE \(database) SET TimeZone = 'Asia/Tokyo'",
      "ALTER DATABASE \(database) SET DateStyle = 'SQL, DMY'",
      "ALTER DATABASE \(database) SET default_text_search_config = 'pg_catalog.german'",
      "ALTER DATABASE \(database) SET app.factor = '3'",
      // Of these the role decides.
      "ALTER ROLE \(owner) SET IntervalStyle = 'iso_8601'", "ALTER ROLE \(owner) SET app.factor = '5'",
      "ALTER ROLE \(owner) SET array_nulls = off",
      "CREATE TABLE app.doc (id int PRIMARY KEY, body text, at timestamptz, tenant text)",
      "CREATE TABLE app.secret (id int PRIMARY KEY, tenant text)",
      """
      CREATE FUNCTION app.bodies() RETURNS bigint LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT count(*) FROM doc); END'
      """,
      """
      CREATE FUNCTION app.rank(text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN (SELECT max(id) FROM doc WHERE body = $1); END'
      """,
      "GRANT SELECT ON ALL TABLES IN SCHEMA app TO \(owner)",
      "ALTER TABLE app.doc OWNER TO \(owner)", "ALTER TABLE app.secret OWNER TO \(owner)",
      "ALTER TABLE app.secret ENABLE ROW LEVEL SECURITY", "ALTER TABLE app.secret FORCE ROW LEVEL SECURITY",
      "CREATE POLICY own ON app.secret USING (tenant = 'mine')",
      """
      INSERT INTO app.doc SELECT n, 'die Häuser ' || n,
        timestamptz '2024-01-01 20:00:00+00' + n * interval '1 hour', 'mine' FROM generate_series(1, 50) n
      """,
      """
      INSERT INTO app.secret SELECT n, CASE WHEN n > 3 THEN 'mine' ELSE 'other' END
      FROM generate_series(1, 9) n
      """,
    ]
      + [
        "by_day AS SELECT at::date AS day, count(*) FROM app.doc GROUP BY 1",
        "words AS SELECT id, to_tsvector(body) AS v FROM app.doc",
        "as_text AS SELECT id, at::text AS t, (at - timestamptz '2000-01-01')::text AS i FROM app.doc",
        "factor AS SELECT id * current_setting('app.factor')::int AS n FROM app.doc",
        "called AS SELECT app.bodies() AS n",
        "stat AS SELECT word, ndoc FROM ts_stat('SELECT v FROM words')",
        "visible AS SELECT id FROM app.secret",
        "nulls AS SELECT '{NULL}'::text::text[] AS a",
        "grouped AS SELECT id, body, count(*) FROM app.doc GROUP BY id",
        // Defined before what it comes to read.
        "first AS SELECT n FROM app.between",
      ].flatMap { view -> [String] in
        view.hasPrefix("first")
          ? [
            "CREATE VIEW app.between AS SELECT 0::bigint AS n", "ALTER VIEW app.between OWNER TO \(owner)",
            make(view),
            make("last AS SELECT count(*) AS n FROM app.doc"),
            "CREATE OR REPLACE VIEW app.between AS SELECT n FROM app.last",
          ] : [make("\(view) WITH NO DATA")]
      } + [
        "CREATE UNIQUE INDEX grouped_id ON app.grouped (id)",
        "CREATE INDEX on_words ON app.words USING gin (v)",
        "CREATE INDEX grouped_rank ON app.grouped (app.rank(body))",
        "CREATE STATISTICS app.grouped_stats ON id, body FROM app.grouped",
        make("on_grouped AS SELECT id FROM app.grouped WITH NO DATA"),
        "CREATE UNIQUE INDEX on_grouped_id ON app.on_grouped (id)",
        "CREATE MATERIALIZED VIEW app.empty AS SELECT 1 / 0 AS never WITH NO DATA",
        "CREATE INDEX empty_never ON app.empty (never)",
        "COMMENT ON MATERIALIZED VIEW app.grouped IS 'grouped by its key'",
        "GRANT SELECT ON app.grouped, app.empty TO PUBLIC",
      ]
  }

  private static let names = [
    "by_day", "words", "as_text", "factor", "called", "stat", "visible", "nulls", "grouped", "on_grouped",
    "last", "first",
  ]

  @Test(
    "A view is refreshed under the settings of its database and owner, as its owner, after what it reads")
  func settings() async throws {
    try await SharedRole.with("matview") { owner in
      try await Scene.run("matview") { scene in
        let database = quotedIdentifier(scene.databases.name)
        for sql in Self.views(owner: owner, database: database) { try await scene.source(sql) }
        // As the application does it: a session of the owner's.
        for server in [scene.databases.source] {
          let session = try await SQLSession(server)
          for sql in [
            "SET SESSION AUTHORIZATION \(owner)", "SET IntervalStyle = 'iso_8601'", "SET app.factor = '5'",
            "SET array_nulls = off",
          ] + Self.names.map({ "REFRESH MATERIALIZED VIEW app.\($0)" }) { try await session.execute(sql) }
          await session.close()
        }
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        #expect(!engine.errors.contains("could not be refreshed"), "\(engine.errors)")
        for name in Self.names { try await expectEqual(name, scene) }
        #expect(try await scene.targetValue("SELECT count(*) FROM app.visible") == "6")
        #expect(
          try await scene.targetValue("SELECT relispopulated FROM pg_class WHERE relname = 'empty'")
            == "f")
        let verify = try await scene.replicate.run("verify")
        #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
        #expect(!verify.output.contains("materialized view"), "\(verify.output)")

        try await scene.source("INSERT INTO app.doc VALUES (51, 'mehr', '2024-05-05 23:00+00', 'mine')")
        let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
        _ = try await engine.waitForEnd(within: .seconds(30))
        let expected = try await scene.sourceValue(Self.belongings)
        #expect(expected?.contains("grouped by its key") == true)
        #expect(try await scene.targetValue(Self.belongings) == expected)
        #expect(try await scene.targetValue("SELECT n FROM app.first") == "51", "refreshed once more")
      }
    }
  }

  /// What views have beside their rows: owners, grants, comments, indexes, statistics.
  private static let belongings = """
    SELECT string_agg(format('%s %s %s %s %s %s', c.relname, pg_get_userbyid(c.relowner), c.relacl,
      obj_description(c.oid, 'pg_class'),
      (SELECT string_agg(pg_get_indexdef(i.oid), ';' ORDER BY i.relname) FROM pg_index x
        JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid),
      (SELECT string_agg(stxname, ';') FROM pg_statistic_ext WHERE stxrelid = c.oid)),
      ';' ORDER BY c.relname)
    FROM pg_class c WHERE c.relkind = 'm'
    """

  private func expectEqual(_ view: String, _ scene: Scene) async throws {
    let rows = """
      SELECT count(*) || ' ' || coalesce(string_agg(v::text, ';' ORDER BY v::text), '') FROM app.\(view) v
      """
    let expected = try await scene.sourceValue(rows)
    #expect(try await scene.targetValue(rows) == expected, "\(view)")
  }

  private static let failing = [
    "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)",
    "CREATE MATERIALIZED VIEW broken AS SELECT 10 / n AS n FROM t",
    "CREATE MATERIALIZED VIEW above AS SELECT n FROM broken",
    "CREATE MATERIALIZED VIEW well AS SELECT count(*) AS n FROM t",
    "INSERT INTO t VALUES (2, 0)",
  ]

  @Test(
    "One that fails on the source, too, is named, keeps the others from nothing, and no cutover misses it")
  func failure() async throws {
    try await Scene.run("matview_failure") { scene in
      for sql in Self.failing { try await scene.source(sql) }
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      for words in [
        "materialized view \"public\".\"broken\" could not be refreshed on the target: division by zero",
        "materialized view \"public\".\"above\" could not be refreshed",
      ] { #expect(engine.errors.contains(words), "\(engine.errors)") }
      #expect(try await scene.targetValue("SELECT n FROM well") == "2")
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 4, "\(verify.output)\(verify.errors)")
      #expect(verify.output.contains("materialized view public.broken has no data on the target"))
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      let remedy = "REFRESH MATERIALIZED VIEW \"public\".\"broken\" WITH NO DATA;"
      for words in ["division by zero (SQLSTATE 22012); it has no rows there", remedy] {
        #expect(refused.errors.contains(words), "\(refused.output)\(refused.errors)")
      }
      #expect(try await scene.report().events.contains { $0.what.contains("\"broken\" could not be") })
      // What the message advises.
      try await scene.source(remedy, "REFRESH MATERIALIZED VIEW \"public\".\"above\" WITH NO DATA;")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
    }
  }

  @Test("One that was refreshed once and fails later keeps its rows, with a warning")
  func laterFailure() async throws {
    try await Scene.run("matview_later") { scene in
      for sql in Self.failing.dropLast() { try await scene.source(sql) }
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source("INSERT INTO t VALUES (2, 0)")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
      #expect(engine.errors.contains("it keeps the rows that it has"), "\(engine.errors)")
      #expect(try await scene.targetValue("SELECT n FROM broken") == "10")
      #expect(try await scene.targetValue("SELECT n FROM well") == "2")
    }
  }
}
