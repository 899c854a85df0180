import Clusters
import Foundation
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// Names that mean something to a server, a terminal or a log, and a path that leads to traps before
/// `pg_catalog`: through a whole migration and back.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct HostileTests {
  /// 27 bytes: quotes, a statement's end, formats, a line break, an escape sequence that clears a screen,
  /// and what turns text around.
  private static let evil = "e\"v'il;\n%s%n\\ \u{1B}[2J\u{202E}$$"

  @Test("Names of every kind reach no server unquoted and no terminal, and no trap on the path is sprung")
  func scene() async throws {
    try await SharedRole.with("\(Self.evil)r", target: false) { role in
      try await Scene.run(Self.evil) { scene in
        let hostile = Hostile(scene: scene)
        for sql in Self.definitions(role: quotedIdentifier(role)) { try await hostile.on(.source, sql) }
        for sql in Self.traps(database: scene.databases.name) { try await hostile.on(.source, sql) }
        let careless = "SELECT 'a'::text = 'b'"
        #expect(try await scene.refusal(of: careless, on: scene.databases.source) == "P0001")
        try await hostile.on(.source, "SELECT setval('trap.calls', 1, false)")
        try await hostile.run(["check"] + ClusterPair.shared.encryptionArguments, exitCode: 3)
        try await hostile.on(.target, "CREATE ROLE \(quotedIdentifier(role))")
        try await hostile.run(["check", "--json"] + ClusterPair.shared.encryptionArguments)

        var engine = try await scene.start(reverse: true)
        try await scene.waitUntilReady(engine)
        try await hostile.follow(engine)
        #expect(try await hostile.value(.source, "SELECT is_called FROM trap.watched") == "f")
        #expect(
          try await hostile.value(.target, "SELECT is_called FROM trap.watched") == "t",
          "what tables are made of is called where rows are written, as by a restore")
        engine.terminate()
        #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
        Self.expectPlain(engine.errors, "the engine's log")
        engine = try await scene.start("--log-format", "json", "--log-level", "debug", reverse: true)
        try await scene.waitUntilReady(engine)
        for arguments in [["status"], ["status", "--json"], ["verify"], ["verify", "--json"]] {
          try await hostile.run(arguments)
        }
        try await hostile.expectDifferences()
        for arguments in [["cutover", "--yes", "--verify", "full"], ["report"]] {
          try await hostile.run(arguments)
        }
        try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
        try await hostile.run(["verify"])
        try await hostile.on(.target, "INSERT INTO \(Self.table) (\(Self.name("c"))) VALUES ('behind')")
        for arguments in [["rollback", "--yes"], ["report"], ["report", "--json"], ["finish", "--yes"]] {
          try await hostile.run(arguments)
        }
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        Self.expectPlain(engine.errors, "the engine's log as JSON")
        for line in engine.errors.split(separator: "\n") {
          #expect(throws: Never.self, "\(line)") {
            try JSONSerialization.jsonObject(with: Data(line.utf8))
          }
        }
        try await hostile.expectEqualEnds()
        for end in [Scene.End.source, .target] {
          #expect(try await hostile.value(end, "SELECT is_called FROM trap.calls") == "f", "\(end)")
        }
      }
    }
  }

  @Test("Who reads tables only is refused a view that bears the name of one")
  func tablesOnly() async throws {
    try await Scene.fenced("tablesonly") { scene in
      let knows = "SELECT count(*) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'"
      guard try await scene.sourceValue(knows) == "1" else { return }
      try await scene.source("CREATE TABLE t (id int)", "CREATE VIEW v AS SELECT 1 AS id")
      func refusal(_ sql: String) async throws -> String? {
        do {
          try await scene.connection(.source).query(sql, doing: "reading")
          return nil
        } catch let error as PostgresError {
          return error.sqlState?.rawValue
        }
      }
      #expect(try await refusal("\(Session.readingTablesOnly); SELECT id FROM public.t") == nil)
      #expect(try await refusal("\(Session.readingTablesOnly); SELECT id FROM public.v") == "55000")
      #expect(try await refusal("SELECT id FROM public.v") == nil, "no longer than the transaction")
    }
  }

  private static func name(_ kind: String) -> String { quotedIdentifier(kind + evil) }
  fileprivate static let table = "\(name("s")).\(name("t"))"

  private static func definitions(role: String) -> [String] {
    let (schema, text) = (name("s"), quotedLiteral(evil))
    return [
      "CREATE SCHEMA \(schema)", "CREATE TYPE \(schema).\(name("e")) AS ENUM (\(text), 'other')",
      """
      CREATE TABLE \(table) (
        \(name("k")) int GENERATED ALWAYS AS IDENTITY CONSTRAINT \(name("p")) PRIMARY KEY,
        \(name("c")) text DEFAULT \(text) CONSTRAINT \(name("h")) CHECK (\(name("c")) <> ''),
        \(name("l")) \(schema).\(name("e")) DEFAULT \(text))
      """,
      "INSERT INTO \(table) DEFAULT VALUES", "CREATE INDEX \(name("i")) ON \(table) (lower(\(name("c"))))",
      "ALTER TABLE \(table) OWNER TO \(role)", "CREATE SEQUENCE \(schema).\(name("q"))",
      """
      CREATE FUNCTION \(schema).\(name("f"))() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
      """,
      """
      CREATE TRIGGER \(name("g")) BEFORE INSERT ON \(table) FOR EACH ROW
        EXECUTE FUNCTION \(schema).\(name("f"))()
      """,
      "ALTER TABLE \(table) ENABLE ALWAYS TRIGGER \(name("g"))",
      "CREATE MATERIALIZED VIEW \(schema).\(name("m")) AS SELECT count(*) FROM \(table)",
      """
      CREATE TABLE \(schema).\(name("x")) (\(name("c")) text PRIMARY KEY) PARTITION BY LIST (\(name("c")))
      """,
      "CREATE TABLE \(schema).\(name("y")) PARTITION OF \(schema).\(name("x")) FOR VALUES IN (\(text))",
      "INSERT INTO \(schema).\(name("x")) VALUES (\(text))", "COMMENT ON TABLE \(table) IS \(text)",
      "CREATE UNLOGGED TABLE \(schema).\(name("u")) AS SELECT 1 AS \(name("c"))",
    ]
  }

  /// What would run with our rights if a name were looked up along the database's path.
  private static func traps(database: String) -> [String] {
    let types = ["text", "name", "oid", "int4", "int8", "bool", "\"char\""]
    let pairs = types.map { ($0, $0) } + [("name", "text")]
    return [
      "CREATE SCHEMA trap", "CREATE SEQUENCE trap.calls", "CREATE SCHEMA evil",
      // What it counts stays counted.
      """
      CREATE FUNCTION trap.spring() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_catalog.nextval('trap.calls');
        RAISE EXCEPTION 'a trap was sprung by %', pg_catalog.current_setting('application_name');
      END $$
      """,
    ]
      + pairs.flatMap { left, right in
        [
          "CREATE FUNCTION evil.eq(\(left), \(right)) RETURNS bool LANGUAGE sql AS 'SELECT trap.spring()'"
        ]
          + ["=", "<>", "<", ">=", "~", "!~"].map {
            "CREATE OPERATOR evil.\($0) (LEFTARG = \(left), RIGHTARG = \(right), FUNCTION = evil.eq)"
          }
      }
      + [
        "lower(text)", "upper(text)", "format(text)", "current_setting(text)", "now()", "version()",
        "set_config(text, text, bool)", "quote_ident(text)", "pg_get_userbyid(oid)", "pg_is_in_recovery()",
      ].map { "CREATE FUNCTION evil.\($0) RETURNS text LANGUAGE sql AS 'SELECT trap.spring()::text'" }
      + ["pg_class", "pg_namespace", "pg_settings", "pg_locks", "pg_replication_slots", "pg_roles"].flatMap {
        [
          "CREATE VIEW evil.\($0) AS SELECT trap.spring() AS name",
          "CREATE VIEW public.\($0) AS SELECT trap.spring() AS name",
        ]
      }
      + watched
      + ["ALTER DATABASE \(quotedIdentifier(database)) SET search_path = evil, pg_catalog, public"]
  }

  /// A check, a domain and an index that note when they are called for us.
  private static let watched = [
    "CREATE SEQUENCE trap.watched",
    """
    CREATE FUNCTION trap.watch(text) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
      IF pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.~~) 'replicate %' THEN
        PERFORM pg_catalog.nextval('trap.watched');
      END IF;
      RETURN true;
    END $$
    """,
    "CREATE DOMAIN trap.domain AS text CHECK (trap.watch(VALUE))",
    "CREATE TABLE trap.t (id int PRIMARY KEY, v trap.domain, CHECK (trap.watch(v)))",
    "CREATE INDEX ON trap.t (trap.watch(v))", "INSERT INTO trap.t VALUES (1, 'x')",
  ]

  fileprivate static func expectPlain(
    _ text: String, _ what: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let bad = text.unicodeScalars.filter { scalar in
      scalar != "\n"
        && [.control, .format, .lineSeparator].contains(scalar.properties.generalCategory)
    }
    #expect(bad.isEmpty, "\(what): \(text.debugDescription)", sourceLocation: sourceLocation)
    // A line of a name's own would begin as names do after their line break.
    #expect(
      !text.split(separator: "\n").contains { $0.hasPrefix("%s%n") }, "\(what): \(text.debugDescription)",
      sourceLocation: sourceLocation)
  }

  /// The test's own sessions do not take the path.
  private struct Hostile: Sendable {
    let scene: Scene

    private func end(_ end: Scene.End) -> Clusters.ConnectionString {
      (end == .source ? scene.databases.source : scene.databases.target)
        .with(["options": "-c search_path=public"])
    }

    func on(_ end: Scene.End, _ sql: String) async throws {
      let session = try await SQLSession(self.end(end))
      try await session.execute(sql)
      await session.close()
    }

    func value(_ end: Scene.End, _ sql: String) async throws -> String? {
      try await SQLSession.value(sql, on: self.end(end))
    }

    func run(_ arguments: [String], exitCode: Int32 = 0) async throws {
      let run = try await scene.replicate.run(arguments)
      #expect(run.exitCode == exitCode, "\(arguments): \(run.output)\(run.errors)")
      expectPlain(run.output, "\(arguments)")
      expectPlain(run.errors, "\(arguments)")
      if arguments.contains("--json") {
        #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: Data(run.output.utf8)) }
      }
    }

    /// A changed table, whose name is in log and status until the target's is changed the same way.
    func follow(_ engine: BackgroundProcess) async throws {
      let change = "ALTER TABLE \(table) ADD COLUMN \(name("n")) int"
      try await on(.source, change)
      try await on(.source, "INSERT INTO \(table) (\(name("n"))) VALUES (1)")
      try await scene.waitUntil("the table to be waited for", engine) {
        $0.stream.waitsFor?.contains(evil.replacing("\"", with: "\"\"")) == true
      }
      try await run(["status"])
      try await run(["status", "--json"])
      try await on(.target, change)
      try await scene.waitUntilReady(engine)
    }

    /// Rows that differ in tables, columns and keys of such names: named in every form, and by a cutover.
    func expectDifferences() async throws {
      let (schema, c) = (name("s"), name("c"))
      try await plant("UPDATE \(table) SET \(c) = 'planted'", "DELETE FROM \(schema).\(name("y"))")
      for arguments in [["verify"], ["verify", "--json"], ["report"], ["report", "--json"]] {
        try await run(arguments, exitCode: arguments[0] == "verify" ? 4 : 0)
      }
      for extent in ["changed", "full"] {
        try await run(["cutover", "--yes", "--verify", extent], exitCode: 5)
      }
      let value = quotedLiteral(evil)
      try await plant(
        "UPDATE \(table) SET \(c) = \(value)", "INSERT INTO \(schema).\(name("y")) VALUES (\(value))")
    }

    private func plant(_ statements: String...) async throws {
      let server = scene.databases.target.with(
        ["options": "-c search_path=public -c session_replication_role=replica"])
      let session = try await SQLSession(server)
      for sql in statements { try await session.execute(sql) }
      await session.close()
    }

    func expectEqualEnds() async throws {
      let differences = try await DatabaseComparison().differences(
        source: end(.source), target: end(.target))
      #expect(differences == [])
    }
  }
}
