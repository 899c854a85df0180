import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// `replicate verify` as its users run it, and what a cutover and a rollback make of it.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(4)))
struct VerifyTests {
  private static let tables = [
    "CREATE TABLE quiet (id int PRIMARY KEY, v text)",
    "INSERT INTO quiet SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 20000) i",
    "CREATE TABLE parted (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
    "CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu')",
    "INSERT INTO parted SELECT i, 'eu' FROM generate_series(1, 100) i", "CREATE SEQUENCE counter",
  ]

  @Test("Under load both ends are equal at one LSN; what is planted is named, and aborts a cutover")
  func everything() async throws {
    try await Scene.run("verify") { scene in
      let ledger = Ledger(writers: 4, transactionsPerSecond: 300)
      try await ledger.createTables(on: scene.databases.source)
      for sql in Self.tables { try await scene.source(sql) }
      ledger.start(on: scene.databases.source)
      let engine = try await scene.start(reverse: true)
      try await scene.waitUntilReady(engine)
      let running = Running(scene: scene, engine: engine)

      let equal = try await running.verify()
      #expect(equal.exitCode == 0, "\(equal.output)\(equal.errors)\(engine.errors)")
      let report = try running.report(equal)
      #expect(report.lsn != nil)
      #expect(report.tables.contains { $0.name.name == "ledger_entry" && ($0.sourceRows ?? 0) > 0 })
      #expect(try await running.traces() == [])
      let part = try await running.verify("--tables", "public.parted")
      let compared = try running.report(part).tables.filter { $0.verdict != .notCompared }
      #expect(compared.map(\.name.name) == ["parted_eu"])
      let unknown = try await running.verify("--tables", "public.nothing")
      #expect(unknown.exitCode == 1 && unknown.errors.contains("nothing"), "\(unknown.errors)")

      try await running.plant(on: .target, "UPDATE quiet SET v = 'planted' WHERE id = 777")
      let different = try await running.verify()
      #expect(different.exitCode == 4, "\(different.output)\(different.errors)")
      let table = try #require(try running.report(different).tables.first { $0.name.name == "quiet" })
      #expect(table.verdict == .different && table.different == 1)
      #expect(table.rows.map(\.words) == ["(id)=(777)"])
      #expect(!different.output.contains("planted"), "no value is shown")

      let aborted = try await scene.replicate.run("cutover", "--yes")
      #expect(aborted.exitCode == 5, "\(aborted.output)\(aborted.errors)")
      #expect(aborted.errors.contains("(id)=(777)"), "\(aborted.errors)")
      // A refusal ends a writer.
      await ledger.stop()
      ledger.start(on: scene.databases.source)
      try await running.expectWrites(ledger)
      let refused = try await scene.replicate.run(
        "cutover", "--yes", "--verify", "full", "--max-pause", "150ms")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      #expect(refused.errors.contains("--verify full"), "\(refused.errors)")
      #expect(try await scene.status().cutover?.fenceLSN == nil, "it did not come to the fence")

      try await running.plant(
        on: .target, "UPDATE quiet SET v = repeat(md5('777'), 5) WHERE id = 777")
      #expect(try await running.verify().exitCode == 0)
      let rehearsed = try await scene.replicate.run("cutover", "--yes", "--dry-run", "--verify", "full")
      #expect(rehearsed.exitCode == 0, "\(rehearsed.output)\(rehearsed.errors)")
      let whole = try #require(try await scene.status().cutover?.verification)
      #expect(whole.extent == .full && whole.result == .equal && whole.tables >= 3, "\(whole)")
      await ledger.stop()
      ledger.start(on: scene.databases.source)
      try await scene.source(
        "UPDATE quiet SET v = 'changed' WHERE id < 10", "DELETE FROM quiet WHERE id = 10")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let proof = try #require(try await scene.status().cutover?.verification)
      #expect(proof.extent == .changed && proof.result == .equal && proof.tables > 0, "\(proof)")
      #expect(proof.seconds < 5)
      try await waitUntil("the refusal of every writer") { ledger.report.refusedWriters == 4 }
      await ledger.stop()
      try await Self.behind(running)
    }
  }

  /// After the cutover: the same with the stream the other way.
  private static func behind(_ running: Running) async throws {
    let scene = running.scene
    try await scene.waitUntil("the reverse stream", running.engine) { $0.phase == .reverse && $0.ready }
    try await scene.target("UPDATE quiet SET v = 'behind' WHERE id = 20")
    let equal = try await running.verify()
    #expect(equal.exitCode == 0, "\(equal.output)\(equal.errors)\(running.engine.errors)")
    try await scene.target("UPDATE quiet SET v = 'behind' WHERE id = 21")
    try await running.plant(on: .source, "DELETE FROM quiet WHERE id = 22")
    let different = try await running.verify()
    #expect(different.exitCode == 4, "\(different.output)\(different.errors)")
    #expect(try running.report(different).tables.flatMap(\.rows).map(\.words) == ["(id)=(22)"])
    #expect(try running.report(different).tables.flatMap(\.rows).map(\.kind) == [.extra])
    let aborted = try await scene.replicate.run("rollback", "--yes")
    #expect(aborted.exitCode == 5 && aborted.errors.contains("(id)=(22)"), "\(aborted.errors)")
    try await scene.target("UPDATE quiet SET v = 'writable' WHERE id = 23")
    try await running.plant(
      on: .source, "INSERT INTO quiet SELECT 22, repeat(md5('22'), 5)")
    let rollback = try await scene.replicate.run("rollback", "--yes", "--verify", "counts")
    #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)")
    #expect(try await running.engine.waitForEnd(within: .seconds(30)) == 0, "\(running.engine.errors)")
    let late = try await running.verify()
    #expect(late.exitCode == 64 && late.errors.contains("no stream relates the ends"), "\(late.errors)")
    let shown = try await scene.replicate.run("report", "--json")
    let report = try JSONDecoder().decode(MigrationReport.self, from: Data(shown.output.utf8))
    #expect(report.cutovers.last?.outcome?.verification?.extent == .counts)
    #expect(report.verifications.count >= 6)
    #expect(report.verifications.contains { $0.outcome?.hasDifferences == true })
  }

  @Test("Nobody waits for a comparison; what was written anew meanwhile, or since, is known to be unknown")
  func writtenAnew() async throws {
    try await Scene.run("verifyanew") { scene in
      for sql in Self.tables { try await scene.source(sql) }
      try await scene.source(
        "CREATE TABLE emptied AS SELECT * FROM quiet", "ALTER TABLE emptied ADD PRIMARY KEY (id)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)

      let slow = try await scene.replicate.start("verify", "--json", "--max-rate", "3MB")
      try await slow.waitUntil("rows that were read", within: .seconds(20)) {
        try await scene.status().verification?.progress?.bytesDone ?? 0 > 0
      }
      try await scene.source("TRUNCATE emptied", "INSERT INTO emptied VALUES (1, 'behind')")
      try await engine.waitUntil("the same on the target", within: .seconds(20)) {
        try await scene.targetValue("SELECT count(*) FROM emptied") == "1"
      }
      #expect(slow.isRunning, "the comparison goes on")
      #expect(try await slow.waitForEnd(within: .seconds(30)) == 0, "\(slow.output)\(slow.errors)")
      let report = try JSONDecoder().decode(VerificationReport.self, from: Data(slow.output.utf8))
      #expect(report.table("emptied")?.verdict == .notCompared)
      #expect(report.table("quiet")?.verdict == .equal)

      // Both ends give old rows a value, each its own.
      let addition = "ALTER TABLE quiet ADD COLUMN seen timestamptz DEFAULT now()"
      try await scene.source(addition)
      try await scene.target(addition)
      let rehearsed = try await scene.replicate.run("cutover", "--yes", "--dry-run")
      #expect(rehearsed.exitCode == 0, "\(rehearsed.output)\(rehearsed.errors)")
      #expect(engine.errors.contains("a table is copied again"), "\(engine.errors)")
      let seen = "SELECT max(seen) FROM quiet"
      #expect(try await scene.targetValue(seen) == (try await scene.sourceValue(seen)))
      let proof = try #require(try await scene.status().cutover?.verification)
      #expect(proof.tables >= 2, "what was written anew is compared whole: \(proof)")
      engine.terminate()
    }
  }

  @Test("Cancelled, or with command or engine killed, a comparison leaves no slot and no open transaction")
  func withoutATrace() async throws {
    try await Scene.run("verifycancel") { scene in
      for sql in Self.tables { try await scene.source(sql) }
      var engine = try await scene.start()
      try await scene.waitUntil("the stream", engine) { $0.phase == .streaming }
      let running = Running(scene: scene, engine: engine)

      let cancelled = try await running.startSlowly()
      try await scene.waitUntil("a status that shows it", engine) { $0.verification?.lsn != nil }
      cancelled.interrupt()
      #expect(try await cancelled.waitForEnd(within: .seconds(5)) == 130, "\(cancelled.errors)")
      try await running.waitForNoTrace()
      #expect(try await scene.targetValue("SELECT count(*) FROM replicate.verification") == "0")

      let killed = try await running.startSlowly()
      killed.kill9()
      try await running.waitForNoTrace()
      #expect(try await scene.targetValue("SELECT count(*) FROM replicate.verification") == "0")

      let interrupted = try await running.startSlowly()
      let rehearsal = try await scene.replicate.run("cutover", "--yes", "--dry-run")
      #expect(rehearsal.exitCode == 0, "\(rehearsal.errors)")
      #expect(rehearsal.output.contains("all rows were compared instead"), "\(rehearsal.output)")
      #expect(try await interrupted.waitForEnd(within: .seconds(10)) == 1)
      #expect(interrupted.errors.contains("a cutover began"), "\(interrupted.errors)")

      // While its slot waits for a transaction, and while rows are read.
      let idle = try await SQLSession(scene.databases.source)
      try await idle.execute("BEGIN")
      try await idle.execute("INSERT INTO quiet VALUES (-1, 'open')")
      let waiting = try await scene.replicate.start("verify")
      try await waiting.waitUntil("a slot that waits", within: .seconds(20)) {
        try await running.traces().contains("slot on the source")
      }
      engine.kill9()
      try await running.waitForNoTrace()
      try await idle.execute("COMMIT")
      await idle.close()
      engine = try await scene.start()
      #expect(try await waiting.waitForEnd(within: .seconds(30)) == 1, "\(waiting.output)")
      try await scene.waitUntil("the next engine", engine) { $0.phase == .streaming && $0.engine.running }
      let reading = try await running.startSlowly()
      engine.kill9()
      try await running.waitForNoTrace()
      reading.kill9()

      // And while somebody's lock keeps it from a table.
      engine = try await scene.start()
      try await scene.waitUntil("the last engine", engine) { $0.phase == .streaming && $0.engine.running }
      let locking = try await SQLSession(scene.databases.target)
      try await locking.execute("BEGIN")
      try await locking.execute("LOCK TABLE quiet")
      let locked = try await scene.replicate.start("verify")
      try await locked.waitUntil("a comparison that waits", within: .seconds(20)) {
        try await scene.targetValue(
          """
          SELECT count(*) FROM pg_stat_activity
          WHERE application_name = 'replicate verify' AND wait_event_type = 'Lock'
          """) != "0"
      }
      engine.kill9()
      try await running.waitForNoTrace()
      locked.kill9()
      await locking.close()
    }
  }
}

/// A migration whose ends are compared.
extension Running {
  fileprivate func verify(_ options: String...) async throws -> Finished {
    try await scene.replicate.run(["verify", "--json"] + options)
  }

  fileprivate func report(_ finished: Finished) throws -> VerificationReport {
    try JSONDecoder().decode(VerificationReport.self, from: Data(finished.output.utf8))
  }

  /// One that has begun to read and takes minutes.
  fileprivate func startSlowly() async throws -> BackgroundProcess {
    let verify = try await scene.replicate.start("verify", "--max-rate", "16kB")
    try await verify.waitForOutput(" of 2 tables", within: .seconds(30))
    let traces = try await traces()
    #expect(
      traces.contains { $0.hasPrefix("transaction") },
      "\(traces) \(verify.output)\(verify.errors)\(engine.errors.suffix(2000))")
    return verify
  }

  /// Writes past every fence.
  fileprivate func plant(on end: Scene.End, _ sql: String) async throws {
    switch end {
    case .target:
      let session = try await SQLSession(
        scene.databases.target, settings: ["session_replication_role": "replica"])
      try await session.execute(sql)
      await session.close()
    case .source:
      let session = try await SQLSession(
        scene.databases.source, settings: ["default_transaction_read_only": "off"])
      for sql in ["BEGIN", Self.triggers("DISABLE"), sql, Self.triggers("ENABLE ALWAYS"), "COMMIT"] {
        try await session.execute(sql)
      }
      await session.close()
    }
  }

  private static func triggers(_ what: String) -> String {
    """
    DO $$ DECLARE name text; BEGIN
      FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'quiet'::regclass AND NOT tgisinternal LOOP
        EXECUTE format('ALTER TABLE quiet \(what) TRIGGER %I', name);
      END LOOP;
    END $$
    """
  }

  fileprivate func expectWrites(_ ledger: Ledger) async throws {
    let before = ledger.report.acknowledged
    try await waitUntil("writes on the source") { ledger.report.acknowledged > before + 100 }
    #expect(ledger.report.failures == [])
  }

  /// Slots but the stream's, and transactions of comparisons.
  fileprivate func traces() async throws -> [String] {
    var traces: [String] = []
    for (end, server) in [("source", scene.databases.source), ("target", scene.databases.target)] {
      let session = try await SQLSession(server)
      let rows = try await session.rows(
        """
        SELECT 'slot' FROM pg_replication_slots WHERE database = current_database() AND temporary
        UNION ALL SELECT 'transaction' FROM pg_stat_activity WHERE datname = current_database()
          AND application_name IN ('replicate verify', 'replicate snapshot') AND xact_start IS NOT NULL
          AND (backend_xmin IS NOT NULL OR state LIKE 'idle in transaction%')
        """)
      await session.close()
      traces += rows.compactMap { $0.first ?? nil }.map { "\($0) on the \(end)" }
    }
    return traces
  }

  fileprivate func waitForNoTrace() async throws {
    try await waitUntil("an end of every trace", within: .seconds(10)) { try await traces() == [] }
  }
}
