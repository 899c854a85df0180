import Clusters
import Testing

@testable import MigrationEngine

/// Clusters lag behind each other by minor releases. Since November 2026 a server keeps an option of its own
/// with each column, which a pg_dump from before writes out, and which a server from before refuses.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(6)), .ownServers)
struct MinorVersionTests {
  private static let (patched, unpatched) = ("15.20", "15.17")

  private static func run(_ source: String, _ target: String, _ body: (Scene) async throws -> Void)
    async throws
  {
    try await Versions.withPair(source, target) { pair, _ in
      // Those from before, whichever end is newer: it is they that write the option out.
      let programs = try await Versions.programs(of: unpatched)
      try await pair.withFreshDatabases(named: "minor") { databases in
        try await body(
          Scene(
            databases: databases,
            replicate: ReplicateProcess(
              source: databases.source, target: databases.target,
              environment: ["PATH": "\(programs):/usr/bin:/bin"])))
      }
    }
  }

  private static let own = """
    SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attoptions::text ~ 'pg_attver'
    """
  private static let given = """
    SELECT string_agg(o.option, ' ' ORDER BY o.option) FROM pg_attribute, unnest(attoptions) AS o (option)
    WHERE attrelid = 't'::regclass AND o.option !~ 'pg_attver'
    """

  @Test(
    "An option that a patched server keeps with each column goes nowhere, and what users gave comes along")
  func patchedSource() async throws {
    try await Self.run(Self.patched, Self.unpatched) { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v text, \"odd\nname\" int)",
        "ALTER TABLE t ALTER v SET (n_distinct = 5)",
        "INSERT INTO t SELECT n, n, n FROM generate_series(1, 1000) n",
        "CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (1000)",
        "INSERT INTO parted VALUES (1, 'a')", "CREATE MATERIALIZED VIEW sums AS SELECT sum(id) AS s FROM t",
        "CREATE VIEW seen AS SELECT id FROM t")
      #expect(try await scene.sourceValue(Self.own) != "0", "this server keeps no option of its own")
      let engine = try await scene.replicate.start("start", "--allow-unencrypted-target")
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "CREATE TABLE late (id int PRIMARY KEY, v text)", "ALTER TABLE late ALTER v SET (n_distinct = 7)",
        "INSERT INTO late VALUES (1, 'a')", "UPDATE t SET v = 'b' WHERE id = 1")
      try await engine.waitUntil("the table that came later", within: .seconds(60)) {
        let rows =
          "SELECT query_to_xml('SELECT FROM late', false, false, '')::text ~ '<row' WHERE to_regclass('late')"
        return try await scene.targetValue("\(rows) IS NOT NULL") == "t"
      }
      try await scene.waitUntilReady(engine)
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await scene.targetValue(Self.given) == "n_distinct=5")
      #expect(try await scene.targetValue("SELECT s FROM sums") == "500500")
      try await scene.target("INSERT INTO t VALUES (2000, 'new', 1)")
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(try await scene.sourceValue("SELECT v FROM t WHERE id = 2000") == "new")
    }
  }

  @Test("A patched target differs in nothing from a source that is not")
  func patchedTarget() async throws {
    try await Self.run(Self.unpatched, Self.patched) { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "ALTER TABLE t ALTER v SET (n_distinct = 5)",
        "INSERT INTO t VALUES (1, 'a')")
      let engine = try await scene.replicate.start("start", "--no-reverse", "--allow-unencrypted-target")
      try await scene.waitUntilReady(engine)
      #expect(try await scene.targetValue(Self.own) != "0", "this server keeps no option of its own")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await scene.targetValue(Self.given) == "n_distinct=5")
    }
  }

  @Test("What only members of pg_read_all_settings may see keeps nobody else from a migration and back")
  func unseenSetting() async throws {
    try await Self.run(Self.patched, Self.patched) { scene in
      for end in [Scene.End.source, .target] {
        try await SQLSession.run(
          ["CREATE ROLE plain LOGIN REPLICATION PASSWORD 'p'"], on: scene.server(end))
      }
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t OWNER TO plain")
      let login = ["user": "plain", "password": "p"]
      let report = try await Preflight.check(
        source: scene.databases.source.with(login), target: scene.databases.target.with(login))
      #expect(!report.findings.contains { "\($0)".contains("output_plugin_libraries") }, "\(report.findings)")
    }
  }

  @Test("Output plugins without pgoutput are found on either end, and the advice lets it be used again")
  func forbiddenPlugin() async throws {
    try await Self.run(Self.patched, Self.patched) { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      for end in [Scene.End.source, .target] {
        try await SQLSession.run(
          ["ALTER SYSTEM SET output_plugin_libraries = 'test_decoding'", "SELECT pg_reload_conf()"],
          on: scene.server(end))
      }
      func report() async throws -> PreflightReport {
        try await Preflight.check(source: scene.databases.source, target: scene.databases.target)
      }
      let found = try await report()
      #expect(found.blockers.map(\.check).contains("output_plugin_libraries"))
      for (end, check) in [(Scene.End.source, "output_plugin_libraries"), (.target, "way_back")] {
        let remedy = try #require(found.findings(check).first?.remedy)
        let advice = try #require(remedy.firstMatch(of: /ALTER SYSTEM [^;]*; SELECT [^;]*;/)?.output)
        try await SQLSession.run(advice.split(separator: ";").map(String.init), on: scene.server(end))
      }
      let mended = try await report()
      #expect(mended.findings("output_plugin_libraries").isEmpty && mended.findings("way_back").isEmpty)
      let list = "SHOW output_plugin_libraries"
      #expect(try await scene.sourceValue(list) == "test_decoding, pgoutput")
    }
  }
}
