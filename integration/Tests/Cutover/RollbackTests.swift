import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Reverse replication, the way back: what is written on the target after the cutover goes to the source, and
/// `replicate rollback` loses none of it.
@Suite(.serialized, .servers(about: 190), .timeLimit(.minutes(6)))
struct RollbackTests {
  @Test(
    "Writers go over, the engine is killed, and a rollback brings them back with nothing lost or doubled")
  func everything() async throws {
    let ledger = Ledger(writers: 4, transactionsPerSecond: 300)
    try await Scene.run("reverse") { scene in
      let (source, target) = (scene.databases.source, scene.databases.target)
      try await ledger.createTables(on: source)
      try await scene.source("CREATE SEQUENCE bare INCREMENT 5", "SELECT setval('bare', 1000)")
      ledger.start(on: source)
      var engine = try await scene.start(reverse: true)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await Self.waitForRefusals(ledger)

      ledger.start(on: target)
      try await scene.waitUntil("the reverse stream", engine) { $0.phase == .reverse && $0.ready }
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      let before = ledger.report.acknowledged
      try await waitUntil("writes without an engine") { ledger.report.acknowledged > before + 100 }
      engine = try await (try await scene.onAnotherMachine()).start(reverse: true)
      try await scene.waitUntil("the reverse stream again", engine) {
        $0.phase == .reverse && $0.ready && $0.engine.running
      }
      try await scene.target("SELECT nextval('bare')")
      let write = "UPDATE ledger_account SET balance = 0 WHERE writer = 1"
      #expect(try await scene.refusal(of: write, on: source, settings: Self.everySetting) == "25006")

      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(rollback.output.contains("rollback complete; writes paused for"), "\(rollback.output)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      try await Self.waitForRefusals(ledger)
      #expect(try await ledger.verify(on: source) == [])
      #expect(
        try await DatabaseComparison().differences(source: source, target: target) == [])
      #expect(try await scene.sourceValue("SELECT nextval('bare')") == "1010")
      #expect(try await scene.refusal(of: write, on: target, settings: Self.everySetting) == "25006")

      ledger.start(on: source)
      let again = ledger.report.acknowledged
      try await waitUntil("writes on the source") { ledger.report.acknowledged > again + 100 }
      await ledger.stop()
      #expect(ledger.report.failures == [])
      #expect(try await ledger.verify(on: source) == [])
      let status = try await scene.status()
      #expect(status.phase == .complete && status.cutover?.direction == .back)
      #expect(try #require(status.cutover?.writePauseSeconds) < 5)
    }
  }

  private static let everySetting = [
    "default_transaction_read_only": "off", "session_replication_role": "replica",
    "replicate.pass": "guess",
  ]

  private static func waitForRefusals(_ ledger: Ledger) async throws {
    try await waitUntil("the refusal of every writer") { ledger.report.refusedWriters == 4 }
    await ledger.stop()
  }

  @Test("Every kind of change goes back, and what no stream carries comes with the rollback")
  func everyKind() async throws {
    try await Running.back("reverse_kinds", prepare: Self.tables, options: ["--replica-identity", "full"]) {
      back in
      let scene = back.scene
      for sql in Self.changes { try await scene.target(sql) }
      try await back.waitForSource("SELECT count(*), max(v) FROM keyed")
      try await back.waitForSource("SELECT md5(string_agg(b, '' ORDER BY id)) FROM wide")
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(back.engine.errors)")
      #expect(try await back.engine.waitForEnd(within: .seconds(30)) == 0, "\(back.engine.errors)")
      #expect(try await back.differences() == [])
      #expect(try await scene.largeObjects(.source) == scene.largeObjects(.target))
      #expect(try await scene.sourceValue("SELECT total FROM summary") == "42")
      let refused = "INSERT INTO always (id, v) VALUES (5000, 1)"
      #expect(try await scene.refusal(of: refused, on: scene.databases.source) == "428C9")
    }
  }

  private static let tables = [
    "CREATE TABLE keyed (id int PRIMARY KEY, v int)",
    "INSERT INTO keyed SELECT i, i FROM generate_series(1, 50) i",
    "CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY, v int PRIMARY KEY)",
    "INSERT INTO always (v) SELECT generate_series(1, 10)",
    "CREATE TABLE keyless (v text)", "INSERT INTO keyless VALUES ('a'), ('a'), ('b')",
    "CREATE TABLE emptied (id int PRIMARY KEY)", "INSERT INTO emptied SELECT generate_series(1, 10)",
    "CREATE TABLE wide (id int PRIMARY KEY, a int, b text)",
    "ALTER TABLE wide ALTER COLUMN b SET STORAGE EXTERNAL",
    "INSERT INTO wide SELECT i, i, repeat('x', 10000) FROM generate_series(1, 5) i",
    "CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
    "CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200)",
    "INSERT INTO parted SELECT i, i FROM generate_series(1, 50) i",
    "CREATE UNLOGGED TABLE volatile (n int)", "INSERT INTO volatile VALUES (1)",
    "CREATE SEQUENCE counter", "SELECT lo_from_bytea(4711, 'before')", "SELECT lo_from_bytea(4712, 'gone')",
    "CREATE MATERIALIZED VIEW summary AS SELECT count(*) AS total FROM keyed",
  ]

  private static let changes = [
    "INSERT INTO keyed SELECT i, i FROM generate_series(101, 112) i",
    "UPDATE keyed SET v = v + 1000 WHERE id < 20",
    "UPDATE keyed SET id = id + 1000 WHERE id BETWEEN 20 AND 25",
    "DELETE FROM keyed WHERE id BETWEEN 26 AND 45",
    "INSERT INTO always (v) VALUES (100)", "UPDATE always SET v = v + 200 WHERE v < 5",
    "INSERT INTO keyless VALUES ('c')", "UPDATE keyless SET v = 'z' WHERE v = 'b'",
    "DELETE FROM keyless WHERE ctid = (SELECT ctid FROM keyless WHERE v = 'a' LIMIT 1)",
    "TRUNCATE emptied", "INSERT INTO emptied VALUES (77)",
    "UPDATE wide SET a = a + 1 WHERE id < 3", "UPDATE wide SET b = repeat('y', 20000) WHERE id = 4",
    "UPDATE parted SET id = id + 100 WHERE id < 10", "INSERT INTO parted VALUES (90, 90)",
    "DELETE FROM parted WHERE id = 40", "INSERT INTO volatile VALUES (2)", "SELECT setval('counter', 4000)",
    "SELECT lo_put(4711, 0, 'after!')", "SELECT lo_unlink(4712)", "SELECT lo_from_bytea(4713, 'new')",
    "BEGIN; INSERT INTO keyed VALUES (5000, 1); SAVEPOINT s; INSERT INTO keyed VALUES (5001, 1); "
      + "ROLLBACK TO s; DELETE FROM keyed WHERE id = 5000; COMMIT",
  ]

  @Test("A rollback that fails before its seal leaves a target that takes writes and a stream that goes on")
  func failure() async throws {
    try await Running.back(
      "reverse_fails", prepare: ["CREATE TABLE t (id int PRIMARY KEY)", "CREATE SEQUENCE counter"]
    ) { back in
      let scene = back.scene
      try await back.define("ALTER SEQUENCE counter RENAME TO away")
      let failed = try await scene.replicate.run("rollback", "--yes")
      #expect(failed.exitCode == 5, "\(failed.output)\(failed.errors)")
      #expect(failed.errors.contains("counter") && failed.errors.contains("The target takes writes"))
      #expect(failed.output.contains("aborted, the target is writable again"), "\(failed.output)")
      #expect(try await back.isWritable(.target, "INSERT INTO t VALUES (1)"))
      #expect(try await !back.isWritable(.source, "INSERT INTO t VALUES (2)"))
      try await back.waitForSource("SELECT count(*) FROM t")

      try await back.define("ALTER SEQUENCE away RENAME TO counter")
      try await back.waitForStream()
      let rehearsed = try await scene.replicate.run("rollback", "--dry-run", "--yes")
      #expect(rehearsed.exitCode == 0, "\(rehearsed.output)\(rehearsed.errors)")
      #expect(try await back.isWritable(.target, "INSERT INTO t VALUES (3)"))

      try await scene.target("CREATE TABLE latecomer (id int)")
      let refused = try await scene.replicate.run("rollback", "--yes")
      #expect(refused.exitCode == 5 && refused.errors.contains("latecomer"), "\(refused.errors)")
      try await scene.target("DROP TABLE latecomer")
      try await back.waitForStream()
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(back.engine.errors)")
      #expect(try await back.engine.waitForEnd(within: .seconds(30)) == 0)
      #expect(try await back.differences() == [])
      #expect(
        try await back.report().cutovers.map { "\($0.request.direction) \($0.state)" } == [
          "forward complete", "back aborted", "back rehearsed", "back aborted", "back complete",
        ])
    }
  }

  @Test("A partition that the target gets after the cutover comes over once the source has it")
  func newPartition() async throws {
    try await Running.back(
      "reverse_partition",
      prepare: ["CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)"]
    ) { back in
      let partition = "CREATE TABLE parted_new PARTITION OF parted FOR VALUES FROM (0) TO (100)"
      try await back.scene.target(partition, "INSERT INTO parted SELECT generate_series(1, 9)")
      try await back.scene.waitUntil("what the stream waits for", back.engine) {
        $0.stream.waitsFor?.contains("parted_new") == true
      }
      try await back.define(partition)
      try await back.waitForSource("SELECT count(*) FROM parted")
    }
  }

  private static let stepsBeforeSeal = Steps.chosen(
    ["after mark", "before seal"],
    else: ["before arm", "after arm", "before fence", "after fence", "after finalise"])
  private static let stepsAfterSeal = Steps.chosen(
    ["after seal", "after complete"], else: ["before open", "after open", "after switch"])
  private static let stepsOfCutover = Steps.chosen(
    ["after drain", "after seal"], else: ["before open", "after open", "after switch", "after complete"])

  @Test("An engine that dies in a rollback before its seal leaves a target that opens by itself")
  func engineBeforeSeal() async throws {
    let write = "INSERT INTO t (v) VALUES (1)"
    try await Running.back(
      "reverse_dead",
      prepare: ["CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)"]
    ) { back in
      try await Self.stop(back.engine)
      for step in Self.stepsBeforeSeal {
        let next = back.with(try await back.scene.start(reverse: true, meeting: "\(step)=kill"))
        try await next.waitForStream()
        let rollback = try await back.scene.replicate.start("rollback", "--yes", "--timeout", "2s")
        #expect(
          try await next.engine.waitForEnd(within: .seconds(20)) == 128 + 9,
          "\(step): \(next.engine.errors)")
        try await waitUntil("a target that takes writes", within: .seconds(12)) {
          #expect(try await !back.isWritable(.source, write), "\(step): the source is sealed")
          return try await back.isWritable(.target, write)
        }
        try await rollback.end()
      }
      let last = back.with(try await back.scene.start(reverse: true))
      try await last.waitForStream()
      try await last.waitForSource("SELECT count(*) FROM t")
      let rollback = try await back.scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(last.engine.errors)")
      _ = try await last.engine.waitForEnd(within: .seconds(20))
      #expect(try await back.differences() == [])
    }
  }

  @Test("An engine that dies in a rollback after its seal is followed by one that completes it")
  func engineAfterSeal() async throws {
    let write = "INSERT INTO t (v) VALUES (1)"
    for step in Self.stepsAfterSeal {
      try await Running.back(
        "reverse_sealed",
        prepare: ["CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)"]
      ) { back in
        try await Self.stop(back.engine)
        #expect(try await back.isWritable(.target, write))
        let next = back.with(try await back.scene.start(reverse: true, meeting: "\(step)=kill"))
        try await next.waitForStream()
        let rollback = try await back.scene.replicate.start("rollback", "--yes", "--timeout", "2s")
        #expect(
          try await next.engine.waitForEnd(within: .seconds(20)) == 128 + 9,
          "\(step): \(next.engine.errors)")
        #expect(try await !back.isWritable(.target, write), "\(step): the target is sealed")
        let last = try await back.scene.start(reverse: true)
        #expect(try await last.waitForEnd(within: .seconds(30)) == 0, "\(step): \(last.errors)")
        #expect(try await back.differences() == [])
        #expect(try await back.isWritable(.source, write))
        #expect(try await !back.isWritable(.target, write))
        #expect(try await back.scene.status().phase == .complete)
        try await rollback.end()
      }
    }
  }

  @Test(
    "A server that dies in a rollback before its seal: the target takes writes again, the next succeeds",
    .ownServers, arguments: ["source", "target"])
  func serverBeforeSeal(_ which: String) async throws {
    let pair = try await ClusterPair.shared
    let cluster = try #require(which == "source" ? pair.sourceCluster : pair.targetCluster)
    let tables = ["CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)"]
    try await Running.back("reverse_server", prepare: tables) { back in
      try await Self.stop(back.engine)
      let held = try await HoldingPoint("after mark")
      let next = back.with(try await back.scene.start(reverse: true, meeting: held.failpoint))
      try await next.waitForStream()
      let rollback = try await back.scene.replicate.start("rollback", "--yes", "--timeout", "5s")
      try await held.wait(for: next.engine)
      try await cluster.kill9()
      try held.release()
      try await cluster.start()
      #expect(try await rollback.waitForEnd(within: .seconds(60)) == 5, "\(rollback.errors)")
      let outcome = try #require(try await back.report().cutovers.last?.outcome)
      #expect(outcome.reason?.contains("\(which):") == true, "\(outcome.reason ?? "")")
      #expect(
        outcome.timeline.map(\.step).starts(with: ["compare schemas", "arm", "fence"]),
        "\(outcome.timeline)")
      #expect(try await back.isWritable(.target, "INSERT INTO t (v) VALUES (1)"))
      #expect(try await !back.isWritable(.source, "INSERT INTO t (v) VALUES (1)"))
      try await next.waitForStream()
      let again = try await back.scene.replicate.run("rollback", "--yes")
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)\(next.engine.errors)")
      _ = try await next.engine.waitForEnd(within: .seconds(20))
      #expect(try await back.differences() == [])
    }
  }

  @Test("An engine that dies in the cutover after the seal is followed by one that carries writes back")
  func engineInCutover() async throws {
    for step in Self.stepsOfCutover {
      try await Scene.run("reverse_cutover") { scene in
        try await scene.source(
          "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)",
          "INSERT INTO t (v) SELECT generate_series(1, 1000)")
        let engine = try await scene.start(reverse: true, meeting: "\(step)=kill")
        try await scene.waitUntilReady(engine)
        let cutover = try await scene.replicate.start("cutover", "--yes", "--timeout", "2s")
        #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(step): \(engine.errors)")
        let next = Running(scene: scene, engine: try await scene.start(reverse: true))
        if step == "after drain" {
          try await scene.waitUntilReady(next.engine)
          #expect(try await next.tracesOnTarget().filter { $0.hasPrefix("slot ") } == [], "it is undone")
          try await cutover.end()
          let again = try await scene.replicate.run("cutover", "--yes")
          #expect(again.exitCode == 0, "\(again.output)\(again.errors)")
        }
        try await next.waitForStream()
        try await scene.target("UPDATE t SET v = v + 1", "INSERT INTO t (v) VALUES (7)")
        try await next.waitForSource("SELECT count(*) || ' ' || sum(v) FROM t")
        try await Self.stop(next.engine)
        #expect(try await next.differences().filter { $0.hasPrefix("table") } == [])
        try await cutover.end()
      }
    }
  }

  static func stop(_ engine: BackgroundProcess) async throws {
    engine.terminate()
    #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
  }

  @Test(
    "While reverse replication waits for a partition, rollback and comparison are refused at once, and why"
  )
  func waitingForPartition() async throws {
    try await Running.back(
      "waitingback",
      prepare: [
        "CREATE TABLE ev (id int, d int, PRIMARY KEY (id, d)) PARTITION BY LIST (d)",
        "CREATE TABLE ev1 PARTITION OF ev FOR VALUES IN (1)",
      ]
    ) { back in
      let scene = back.scene
      try await scene.target(
        "CREATE TABLE ev2 PARTITION OF ev FOR VALUES IN (2)", "INSERT INTO ev VALUES (5, 2)")
      try await scene.waitUntil("reverse replication that waits", back.engine) {
        $0.stream.waitsFor?.contains("ev2") == true
      }
      let rollback = try await scene.replicate.run("rollback", "--yes", limit: .seconds(20))
      #expect(rollback.exitCode == 5 && rollback.errors.contains("ev2"), "\(rollback.errors)")
      let verify = try await scene.replicate.run("verify", limit: .seconds(20))
      #expect(verify.exitCode == 1 && verify.errors.contains("ev2"), "\(verify.errors)")
      try await back.define("CREATE TABLE ev2 PARTITION OF ev FOR VALUES IN (2)")
      try await back.waitForSource("SELECT count(*) FROM ev")
      #expect(try await scene.status().phase == .reverse, "what was refused is not done later")
      try await back.waitForStream()
      let again = try await scene.replicate.run("rollback", "--yes")
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)")
      _ = try await back.engine.waitForEnd(within: .seconds(30))
    }
  }
}
