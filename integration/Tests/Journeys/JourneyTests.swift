import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// The main job, with writers and readers all the while.
@Suite(.serialized, .servers(about: 120), .timeLimit(.minutes(6)))
struct JourneyTests {
  @Test("Cases 34, 41: a database moves under live writes, over kills, and nothing is lost or doubled")
  func everything() async throws {
    try await Scene.run("journey") { scene in
      let source = scene.databases.source
      let ledger = Ledger(writers: 4, transactionsPerSecond: 500)
      try await ledger.createTables(on: source)
      try await Pgbench.initialize(source, scale: 2)
      try await scene.source(
        "ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "CREATE SEQUENCE bare INCREMENT 5", "SELECT setval('bare', 1000)")
      try await Self.manyTables(scene, count: 60, rows: 20_000)
      ledger.start(on: source)
      let pgbench = try await Pgbench.start(source, clients: 3, rate: 300)
      let reader = Reader(query: "SELECT count(*) FROM ledger_account")
      reader.start(on: source)

      let check = try await scene.replicate.run("check")
      #expect(check.exitCode == 0 || check.exitCode == 3, "\(check.output)\(check.errors)")

      // Killed in the middle of the copy.
      var engine = try await scene.start("--jobs", "1")
      try await scene.waitUntil("the middle of the copy", engine) {
        $0.phase == .copy && $0.copy.tablesDone > 0 && $0.copy.tablesDone < $0.copy.tablesTotal
      }
      engine.kill9()
      #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
      let half = try await scene.status()
      #expect(half.phase == .copy)
      #expect(!half.engine.running)

      // Killed in the middle of the stream; as if on another machine, where nothing of the first one is.
      let elsewhere = try await scene.onAnotherMachine()
      engine = try await elsewhere.start("--jobs", "2")
      try await scene.waitUntilReady(engine)
      engine.kill9()
      #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)

      // Asked to stop.
      engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      let stopped = try await scene.status()
      #expect(stopped.phase == .streaming)
      #expect(!stopped.engine.running)

      engine = try await scene.start()
      try await scene.waitUntil("a small lag", engine) {
        $0.ready && ($0.stream.predictedPauseSeconds ?? .infinity) < 2
      }
      let cutover = try await scene.replicate.run("cutover", "--yes", "--max-pause", "5s")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      await reader.stop()
      try await Self.verifyWriters(ledger, pgbench)
      #expect(try await Self.writesPerSecond(scene, ledger) > 500)
      #expect(reader.report.failures == [])
      #expect(reader.report.longestWait < .seconds(1))
      try await Self.verifyEnds(scene, ledger)
      let after = try await scene.status()
      #expect(after.phase == .complete)
      let pause = try #require(after.cutover?.writePauseSeconds)
      #expect(pause > 0 && pause < 5)
      #expect(cutover.output.contains("ms") || cutover.output.contains(" s"))
    }
  }

  @Test("With --cutover auto the engine cuts over by itself once it is steady")
  func automatic() async throws {
    try await Scene.run("auto") { scene in
      let ledger = Ledger(writers: 4, transactionsPerSecond: 500)
      try await ledger.createTables(on: scene.databases.source)
      ledger.start(on: scene.databases.source)
      let engine = try await scene.start("--cutover", "auto")
      #expect(try await engine.waitForEnd(within: .seconds(60)) == 0, "\(engine.errors)")
      try await waitUntil("the refusal of every writer") { ledger.report.refusedWriters == 4 }
      await ledger.stop()
      #expect(try await ledger.verify(on: scene.databases.target) == [])
      #expect(try await scene.status().cutover?.result == .complete)
    }
  }

  /// Tables that make a copy long enough to be interrupted.
  private static func manyTables(_ scene: Scene, count: Int, rows: Int) async throws {
    try await scene.source(
      """
      DO $$ BEGIN FOR i IN 1..\(count) LOOP
        EXECUTE format('CREATE TABLE filler_%s (id serial PRIMARY KEY, body text NOT NULL)', i);
        EXECUTE format(
          'INSERT INTO filler_%s (body) SELECT repeat(''x'', 200) FROM generate_series(1, \(rows))', i);
      END LOOP; END $$
      """)
  }

  private static func verifyWriters(_ ledger: Ledger, _ pgbench: BackgroundProcess) async throws {
    try await waitUntil("the refusal of every writer") { ledger.report.refusedWriters == 4 }
    await ledger.stop()
    #expect(ledger.report.failures == [])
    #expect(try await pgbench.waitForEnd(within: .seconds(20)) != 0)
    #expect(pgbench.errors.contains("cannot execute UPDATE on"), "\(pgbench.errors)")
  }

  /// Rows written on the source all the while: two by a transaction of the ledger, four by one of pgbench.
  private static func writesPerSecond(_ scene: Scene, _ ledger: Ledger) async throws -> Double {
    let history = try await scene.sourceValue("SELECT count(*) FROM pgbench_history") ?? ""
    let seconds = Double(ledger.report.acknowledged) / ledger.report.acknowledgedPerSecond
    return 2 * ledger.report.acknowledgedPerSecond + 4 * (try #require(Double(history))) / seconds
  }

  /// After the cutover: equal ends, a closed source, an open target whose sequences go on.
  private static func verifyEnds(_ scene: Scene, _ ledger: Ledger) async throws {
    let (source, target) = (scene.databases.source, scene.databases.target)
    #expect(try await ledger.verify(on: target) == [])
    let differences = try await DatabaseComparison().differences(source: source, target: target)
    #expect(differences == [])

    let write = "INSERT INTO ledger_account VALUES (99, 0)"
    #expect(try await scene.refusal(of: write, on: source) == "25006")
    #expect(
      try await scene.refusal(of: write, on: source, settings: ["default_transaction_read_only": "off"])
        == "25006")
    #expect(
      try await scene.refusal(
        of: write, on: source,
        settings: ["default_transaction_read_only": "off", "session_replication_role": "replica"])
        == "25006")
    #expect(try await scene.refusal(of: write, on: target) == nil)
    #expect(try await scene.sourceValue("SELECT count(*) FROM ledger_account") == "4")
    #expect(try await scene.targetValue("SELECT nextval('bare')") == "1005")
    let next =
      "SELECT nextval(pg_get_serial_sequence('ledger_entry', 'id')) > (SELECT max(id) FROM ledger_entry)"
    #expect(try await scene.targetValue(next) == "t")
  }
}
