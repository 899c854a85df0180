import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Writers that pass the fence: known ones keep a cutover from beginning, or the source from being sealed.
/// What an unknown one wrote before the seal is brought over, and what it writes later is reported.
@Suite(.serialized, .servers(about: 90), .timeLimit(.minutes(4)))
struct PassingTests {
  /// As an apply worker does it, past the fence and seen by no look at the catalogs.
  private func slip(_ end: Clusters.ConnectionString, _ sql: String) async throws {
    let session = try await SQLSession(end, settings: ["default_transaction_read_only": "off"])
    let body = try #require(
      try await session.value("SELECT prosrc FROM pg_proc WHERE oid = 'replicate.guard()'::regprocedure"))
    func become(_ body: String) -> String {
      "CREATE OR REPLACE FUNCTION replicate.guard() RETURNS trigger LANGUAGE plpgsql AS "
        + quotedLiteral(body)
    }
    try await session.execute(become("BEGIN RETURN NULL; END"))
    try await session.execute(sql)
    try await session.execute(become(body))
    await session.close()
  }

  private func prepare(_ scene: Scene) async throws {
    try await scene.source(
      "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)",
      "CREATE TABLE quiet (id int PRIMARY KEY)", "INSERT INTO t (v) VALUES (0)")
  }

  @Test("What slips in between the marker and the seal is brought over before the target opens, and reported")
  func slipped() async throws {
    try await Scene.run("slipped") { scene in
      try await prepare(scene)
      let held = try await HoldingPoint("seal announced")
      let engine = try await scene.start(reverse: true, meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      try await slip(scene.databases.source, "INSERT INTO t (v) SELECT generate_series(1, 7)")
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)\(engine.errors)")
      #expect(cutover.output.contains("were brought over: \"public\".\"t\""), "\(cutover.output)")
      #expect(cutover.output.contains("drained again in"), "\(cutover.output)")
      #expect(
        try await DatabaseComparison().differences(
          source: scene.databases.source, target: scene.databases.target) == [])
      // It is not carried back as if the target's users had written it.
      let back = Running(scene: scene, engine: engine)
      try await back.waitForStream()
      try await scene.target("INSERT INTO t (v) VALUES (100)")
      try await back.waitForSource("SELECT count(*), sum(v), sum(id) FROM t")
    }
  }

  @Test(
    "What comes after the seal is not applied to a target that is open, is reported, and the exit code is 1")
  func late() async throws {
    try await Scene.run("passedlate") { scene in
      try await prepare(scene)
      let held = try await HoldingPoint("after open")
      let engine = try await scene.start(reverse: true, meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      try await slip(scene.databases.source, "INSERT INTO t (v) VALUES (1)")
      try await scene.target("INSERT INTO t (v) VALUES (2)")
      let lsn = try #require(try await scene.sourceValue("SELECT pg_current_wal_lsn()"))
      try await waitUntil("the stream to have come to it", within: .seconds(20)) {
        try await scene.sourceValue(
          """
          SELECT bool_or(sent_lsn >= '\(lsn)') FROM pg_stat_replication
          WHERE application_name = 'replicate stream' AND pid IN
            (SELECT active_pid FROM pg_replication_slots WHERE database = current_database())
          """) == "t"
      }
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 1, "\(cutover.output)\(engine.errors)")
      #expect(
        cutover.output.contains("after its seal, and are not on the target: \"public\".\"t\""),
        "\(cutover.output)")
      #expect(cutover.output.contains("copy them by hand"), "\(cutover.output)")
      #expect(try await scene.targetValue("SELECT string_agg(v::text, ' ' ORDER BY v) FROM t") == "0 2")
      #expect(try await scene.status().phase == .reverse)
    }
  }

  @Test("An engine that takes over after the seal proves it anew, and applies nothing to an open target")
  func takeover() async throws {
    for (step, expected) in [("after seal", "0 1"), ("sealed and noted", "0 1"), ("after open", "0")] {
      try await Scene.run("passedtake") { scene in
        try await prepare(scene)
        let engine = try await scene.start(meeting: "\(step)=kill")
        try await scene.waitUntilReady(engine)
        let cutover = try await scene.replicate.start("cutover", "--yes")
        #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(engine.errors)")
        try await slip(scene.databases.source, "INSERT INTO t (v) VALUES (1)")
        let next = try await scene.start()
        _ = try await next.waitForEnd(within: .seconds(40))
        _ = try await cutover.waitForEnd(within: .seconds(30))
        #expect(try await scene.status().phase == .complete, "\(next.errors)")
        let there = try await scene.targetValue("SELECT string_agg(v::text, ' ' ORDER BY v) FROM t")
        #expect(there == expected, "\(step): \(next.errors)")
        if step == "sealed and noted" {
          #expect(next.output.contains("were brought over: \"public\".\"t\""), "\(next.output)")
        }
      }
    }
  }

  @Test("In a rollback it is the same with the ends exchanged")
  func rollback() async throws {
    let tables = ["CREATE TABLE t (id int PRIMARY KEY)"]
    try await Running.back("passedback", prepare: tables) { back in
      let scene = back.scene
      let name = "back_\(scene.databases.name)"
      let writer = try await SQLSession(scene.databases.target)
      for sql in [
        "SELECT pg_replication_origin_create('\(name)')",
        "SELECT pg_replication_origin_session_setup('\(name)')", "INSERT INTO t VALUES (1)",
      ] { try await writer.execute(sql) }
      try await back.waitForSource("SELECT count(*) FROM t")
      let refused = try await scene.replicate.run("rollback", "--yes")
      #expect(refused.exitCode == 5 && refused.errors.contains("'\(name)'"), "\(refused.errors)")
      await writer.close()
      try await scene.target("SELECT pg_replication_origin_drop('\(name)')")
      try await RollbackTests.stop(back.engine)

      let held = try await HoldingPoint("seal announced")
      let engine = try await scene.start(reverse: true, meeting: held.failpoint)
      try await back.with(engine).waitForStream()
      let rollback = try await scene.replicate.start("rollback", "--yes")
      try await held.wait(for: engine)
      try await slip(scene.databases.target, "INSERT INTO t SELECT generate_series(2, 5)")
      try held.release()
      #expect(try await rollback.waitForEnd(within: .seconds(30)) == 0, "\(rollback.errors)")
      #expect(rollback.output.contains("were brought over: \"public\".\"t\""), "\(rollback.output)")
      #expect(try await scene.sourceValue("SELECT count(*) FROM t") == "5")
    }
  }

  @Test("A transaction that writes past the fence keeps the source from being sealed, and is named")
  func open() async throws {
    try await Scene.fenced("passer") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let passer = try await scene.session("SET application_name = 'passer'")
      let fence = try await guardian.fence(expiringAfter: .seconds(60))
      let body = try #require(
        try await scene.sourceValue(
          "SELECT prosrc FROM pg_proc WHERE oid = 'replicate.guard()'::regprocedure"))
      let replace = "CREATE OR REPLACE FUNCTION replicate.guard() RETURNS trigger LANGUAGE plpgsql AS "
      try await scene.source("\(replace) 'BEGIN RETURN NULL; END'")
      for sql in ["BEGIN", "UPDATE keyed SET v = 1 WHERE id = 1"] { try await passer.execute(sql) }
      try await scene.source("\(replace) \(quotedLiteral(body))")
      let error = await #expect(throws: MigrationError.self) { try await guardian.seal(fence) }
      #expect(error?.reason.contains("although the fence refuses it") == true, "\(error?.reason ?? "")")
      #expect(error?.reason.contains("'passer'") == true, "\(error?.reason ?? "")")
      try await passer.execute("ROLLBACK")
      await passer.close()
      // Who was refused, and has written elsewhere in the same transaction, is none.
      let refused = try await scene.session("BEGIN", "SELECT txid_current()", "SAVEPOINT s")
      await #expect(throws: SQLFailure.self) { try await refused.execute("UPDATE keyed SET v = 2") }
      try await refused.execute("ROLLBACK TO s")
      #expect(try await guardian.seal(fence))
      await refused.close()
    }
  }

  @Test(
    "Changes with a replication origin keep a cutover from beginning until that is dropped", .ownServers)
  func origin() async throws {
    try await Scene.run("origin") { scene in
      try await prepare(scene)
      let name = "it's_\(scene.databases.name)"
      let origin = quotedLiteral(name)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let writer = try await SQLSession(scene.databases.source)
      for sql in [
        "SELECT pg_replication_origin_create(\(origin))",
        "SELECT pg_replication_origin_session_setup(\(origin))", "INSERT INTO t (v) VALUES (1)",
      ] { try await writer.execute(sql) }
      try await engine.waitUntil("the change on the target", within: .seconds(20)) {
        try await scene.targetValue("SELECT count(*) FROM t") == "2"
      }
      for arguments in [["--dry-run"], []] {
        let refused = try await scene.replicate.run(["cutover", "--yes"] + arguments)
        #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
        let drop = "SELECT pg_replication_origin_drop(\(origin));"
        #expect(
          refused.errors.contains("replication origin \(origin)") && refused.errors.contains(drop),
          "\(refused.errors)")
        #expect(!refused.errors.contains("fence  "), "nobody was kept from writing: \(refused.errors)")
      }
      #expect(engine.errors.contains("changes come from elsewhere by replication"), "\(engine.errors)")
      await writer.close()
      try await scene.source("SELECT pg_replication_origin_drop(\(origin))")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
    }
  }
}
