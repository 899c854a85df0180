import Clusters
import Testing

@testable import MigrationEngine

/// Databases whose text is not UTF-8.
@Suite(.serialized, .servers, .timeLimit(.minutes(5)))
struct EncodingCases {
  @Test("Case 42: a LATIN1 source arrives in a UTF8 target, names, keys and arrays included")
  func latin() async throws {
    try await Self.run("latin", source: "LATIN1", target: "UTF8") { scene in
      try await scene.run(
        [
          """
          CREATE TABLE "Größe" ("Schlüssel" text PRIMARY KEY, "Bäume" text[], c char(5), v varchar(3), j
            jsonb)
          """,
          """
          INSERT INTO "Größe" SELECT 'é' || i, '{ü,ß}', 'äöü', 'ÄÖÜ', '{"ñ": "©"}' FROM
            generate_series(1, 50) i
          """,
        ], on: .source)
      let engine = try await scene.start([])
      try await scene.waitUntilReady(engine)
      try await scene.run(
        [
          "UPDATE \"Größe\" SET \"Bäume\" = \"Bäume\" || 'þ'::text, j = j || '{\"å\": 1}'",
          "UPDATE \"Größe\" SET \"Schlüssel\" = \"Schlüssel\" || 'ÿ' WHERE \"Schlüssel\" LIKE '%1%'",
          "INSERT INTO \"Größe\" SELECT 'è' || i, NULL, '¿', '¡', NULL FROM generate_series(1, 50) i",
          "DELETE FROM \"Größe\" WHERE \"Schlüssel\" = 'é2'",
        ], on: .source)
      try await Self.cutOver(scene, engine)
      // By characters: the bytes differ.
      try await scene.expectEqual(
        """
        SELECT count(*)
          || md5(string_agg(md5(convert_to(t::text, 'UTF8')), '' ORDER BY "Schlüssel" COLLATE "C"))
        FROM "Größe" AS t
        """)
    }
  }

  @Test("Case 42: bytes that are text in no encoding arrive between two SQL_ASCII databases")
  func bytes() async throws {
    try await Self.run("ascii", source: "SQL_ASCII", target: "SQL_ASCII") { scene in
      try await scene.run(
        [
          """
          CREATE FUNCTION raw(text) RETURNS text LANGUAGE sql AS $$SELECT convert_from(decode($1,
            'hex'), 'SQL_ASCII')$$
          """,
          "CREATE TABLE t (id text PRIMARY KEY, v text, a text[])",
          """
          INSERT INTO t SELECT raw('ff' || to_hex(i + 128)), raw('c3'), ARRAY[raw('e9'), 'é'] FROM
            generate_series(0, 99) i
          """,
        ], on: .source)
      let engine = try await scene.start([])
      try await scene.waitUntilReady(engine)
      try await scene.run(
        [
          "UPDATE t SET v = raw('80'), a = a || raw('fe')",
          "UPDATE t SET id = id || raw('bf') WHERE id < raw('ffb0')",
          """
          INSERT INTO t SELECT raw('fd' || to_hex(i + 128)), raw('c3'), '{}' FROM generate_series(0, 99)
            i
          """,
          "DELETE FROM t WHERE id = raw('ffc0')",
        ], on: .source)
      try await Self.cutOver(scene, engine)
      try await scene.expectEqual(
        """
        SELECT count(*) || md5(string_agg(md5(convert_to(t::text, 'SQL_ASCII')), '' ORDER BY id COLLATE
          "C")) FROM t
        """)
    }
  }

  private static func cutOver(_ scene: Scene, _ engine: BackgroundProcess) async throws {
    let cutover = try await scene.replicate.run("cutover", "--yes", "--max-pause", "60s")
    #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
    #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
  }

  /// A scene whose databases are made anew with these encodings.
  private static func run(
    _ name: String, source: String, target: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (Scene) async throws -> Void
  ) async throws {
    let pair = try await ClusterPair.shared
    try await Scene.run(name) { scene in
      for (server, encoding) in [(pair.source, source), (pair.target, target)] {
        let session = try await SQLSession(server)
        let database = quotedIdentifier(scene.databases.name)
        try await session.execute("DROP DATABASE \(database)")
        try await session.execute(
          """
          CREATE DATABASE \(database) TEMPLATE template0 ENCODING '\(encoding)' LC_COLLATE 'C' LC_CTYPE 'C'
          """
        )
        await session.close()
      }
      try await body(scene)
    }
  }
}
