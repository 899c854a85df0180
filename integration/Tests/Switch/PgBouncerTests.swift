import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Through PgBouncer nobody notices a cutover.
@Suite(
  .serialized, .servers(about: 70), .timeLimit(.minutes(20)),
  .enabled(if: PgBouncer.isInstalled, "needs pgbouncer"))
struct PgBouncerTests {
  /// How many cutovers and rollbacks are made: `REPLICATE_TEST_CUTOVERS`.
  private static let cutovers =
    ProcessInfo.processInfo.environment["REPLICATE_TEST_CUTOVERS"].flatMap { Int($0) } ?? 1

  @Test(
    "No client transaction fails and no client reconnects, over and back, writes and reads alike",
    arguments: 1...cutovers)
  func undisturbed(round: Int) async throws {
    try await Pooled.run("pooled\(round)") { pooled in
      let scene = pooled.scene
      pooled.startClients()
      let before = try pooled.pooler.contents()
      let engine = try await pooled.start(reverse: true)
      try await scene.waitUntilReady(engine)
      // PgBouncer has clients wait for 120 s, unless it is told otherwise.
      let cutover = try await scene.replicate.run("cutover", "--yes", "--timeout", "200s")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(
        engine.errors.contains("wait for more than 120 s, and a cutover may take 200 s"), "\(engine.errors)")
      try await pooled.waitForWrites()
      let report = try #require(try await scene.status().cutover)
      #expect(
        report.timeline.map(\.step) == [
          "compare schemas", "arm", "pause", "fence", "await writers", "mark", "drain", "finalise",
          "verify",
          "seal", "open", "pgbouncer", "switch",
        ])
      #expect(report.reason == nil)
      let pause = try #require(report.writePauseSeconds)
      let paused = try #require(report.timeline.first { $0.step == "pause" })
      let moved = try #require(report.timeline.first { $0.step == "pgbouncer" })
      #expect(pause >= moved.startSeconds + moved.seconds - paused.startSeconds - 0.01)
      let longest = pooled.ledger.report.longestWait
      let (from, to) = (try port(scene.databases.source), try port(scene.databases.target))
      #expect(try pooled.pooler.contents() == before.replacing("port=\(from) ", with: "port=\(to) "))
      #expect(try await !pooled.pooler.isPaused())
      try await rollBack(pooled, engine)
      #expect(try pooled.pooler.contents() == before)
      print(
        "pooled cutover \(round): \(pause) s, longest wait of a writer \(longest); with the rollback "
          + "\(pooled.ledger.report.longestWait)")
    }
  }

  private func rollBack(_ pooled: Pooled, _ engine: BackgroundProcess) async throws {
    let back = Running(scene: pooled.scene, engine: engine)
    try await back.waitForStream()
    let rollback = try await pooled.scene.replicate.run("rollback", "--yes")
    #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
    #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
    try await pooled.waitForWrites()
    await pooled.stopClients()
    pooled.expectUndisturbedClients()
    #expect(try await !pooled.pooler.isPaused())
    #expect(try await pooled.ledger.verify(on: pooled.scene.databases.source) == [])
    #expect(pooled.ledger.report.longestWait < .seconds(5))
  }

  @Test("A failure before the seal lets clients go on, on the source, and the next cutover leads them over")
  func failure() async throws {
    try await Pooled.run("pooledfail") { pooled in
      let scene = pooled.scene
      pooled.startClients()
      let point = try await HoldingPoint("before finalise")
      let engine = try await pooled.start(meeting: point)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await point.wait(for: engine)
      try await scene.target("ALTER SEQUENCE counter RENAME TO away")
      try point.release()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 5, "\(cutover.errors)")
      #expect(cutover.errors.contains("counter"), "\(cutover.errors)")
      try await scene.target("ALTER SEQUENCE away RENAME TO counter")
      try await pooled.waitForWrites()
      pooled.expectUndisturbedClients()
      #expect(try await !pooled.pooler.isPaused())
      let report = try #require(try await scene.status().cutover)
      #expect(report.result == .aborted)
      #expect(report.timeline.map(\.step).suffix(2) == ["unfence", "resume"])
      #expect((report.writePauseSeconds ?? 0) > 0)

      let again = try await scene.replicate.run("cutover", "--yes")
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)\(engine.errors)")
      try await pooled.waitForWrites()
      await pooled.stopClients()
      pooled.expectUndisturbedClients()
      #expect(try await pooled.ledger.verify(on: scene.databases.target) == [])
    }
  }

  @Test(
    "Transactions that do not end keep the pause from being had in time: clients go on, nothing is fenced")
  func busy() async throws {
    try await Pooled.run("pooledbusy") { pooled in
      let scene = pooled.scene
      let engine = try await pooled.start()
      try await scene.waitUntilReady(engine)
      // A reader: a writer would be named before.
      let idle = try await SQLSession(pooled.pooler.connection)
      try await idle.execute("BEGIN \\; SELECT 1")
      pooled.startClients()
      try await pooled.waitForWrites()
      let cutover = try await scene.replicate.run("cutover", "--yes", "--max-pause", "1s")
      #expect(cutover.exitCode == 5, "\(cutover.output)\(cutover.errors)")
      #expect(
        cutover.errors.contains("transactions of its clients did not end: pid "), "\(cutover.errors)")
      let report = try #require(try await scene.status().cutover)
      #expect(report.timeline.map(\.step) == ["compare schemas", "arm", "pause", "resume"])
      let pause = try #require(report.writePauseSeconds)
      #expect(pause >= 1 && pause < 3)
      try await pooled.waitForWrites()

      let forced = try await scene.replicate.run(
        "cutover", "--yes", "--max-pause", "3s", "--terminate-blockers")
      #expect(forced.exitCode == 0, "\(forced.output)\(forced.errors)\(engine.errors)")
      await #expect(throws: SQLFailure.self) { try await idle.execute("COMMIT") }
      let terminated = try await scene.status().cutover?.terminated
      #expect(terminated?.count == 1, "\(terminated ?? [])\(engine.errors)")
      await idle.close()
      await pooled.stopClients()
      pooled.expectUndisturbedClients()
    }
  }

  @Test("Several poolers wait and move together; one that cannot be paused lets all go on")
  func several() async throws {
    try await Pooled.run("pooledtwo") { pooled in
      let scene = pooled.scene
      let second = try await PgBouncer.start(before: pooled.login)
      // The second file is changed by a command, as it would be on another machine.
      let command = "sed -i \"s/port=[0-9]* /port=$REPLICATE_TARGET_PORT /\" \(second.configuration)"
      try pooled.addToPlan(
        """
              - admin: "\(second.admin.text)"
                database: \(scene.databases.name)
                repoint: '\(command)'

        """)
      let engine = try await pooled.start()
      try await scene.waitUntilReady(engine)
      let idle = try await SQLSession(second.connection)
      try await idle.execute("BEGIN \\; SELECT 1")
      pooled.ledger.start(on: pooled.pooler.connection)
      pooled.reader.start(on: second.connection)
      let refused = try await scene.replicate.run("cutover", "--yes", "--max-pause", "1s")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      #expect(try await !pooled.pooler.isPaused())
      #expect(try await !second.isPaused())
      try await pooled.waitForWrites()
      try await idle.execute("COMMIT")
      await idle.close()

      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await pooled.waitForWrites()
      // What comes through the second one is read where the first one writes.
      let session = try await SQLSession(second.connection)
      let seen = try await session.value("SELECT inet_server_port()")
      await session.close()
      #expect(try seen == port(scene.databases.target))
      await pooled.stopClients()
      pooled.expectUndisturbedClients()
      #expect(try await pooled.ledger.verify(on: scene.databases.target) == [])
      try await second.stop()
    }
  }

  @Test("An engine that is killed while clients wait leaves somebody who lets them go")
  func killed() async throws {
    try await Pooled.run("pooledkill") { pooled in
      try await killWhilePaused(pooled, withWatch: false)
      try await waitUntil("the clients", within: .seconds(10)) { try await !pooled.pooler.isPaused() }
      try await succeed(pooled)
    }
  }

  @Test("An engine that is killed in the middle of the pause leaves somebody who lets clients go")
  func killedInPause() async throws {
    try await Pooled.run("pooledmid") { pooled in
      let scene = pooled.scene
      let engine = try await pooled.start()
      try await scene.waitUntilReady(engine)
      // A reader that keeps the pause from being had.
      let idle = try await SQLSession(pooled.pooler.connection)
      try await idle.execute("BEGIN \\; SELECT 1")
      pooled.reader.start(on: pooled.pooler.connection)
      try await waitUntil("reads") { pooled.reader.report.reads > 5 }
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await cutover.waitUntil("the pause", within: .seconds(20)) { try await pooled.pooler.isPaused() }
      engine.kill9()
      #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
      #expect(try await scene.sourceValue("SELECT state FROM replicate.fence()") == "open")
      try await waitUntil("the clients", within: .seconds(10)) { try await !pooled.pooler.isPaused() }
      try await idle.execute("COMMIT")
      await idle.close()
      try await cutover.end()
      try await succeed(pooled)
    }
  }

  @Test("Where that somebody is lost as well, the next engine lets clients go")
  func killedWithWatch() async throws {
    try await Pooled.run("pooledlost") { pooled in
      try await killWhilePaused(pooled, withWatch: true)
      #expect(try await pooled.pooler.isPaused(), "nobody is left to resume it")
      try await succeed(pooled)
    }
  }

  @Test("An engine that is killed after the seal lets clients read on, and the next one leads them over")
  func killedAfterSeal() async throws {
    let folder = try await freshDirectory()
    // Before the pooler's step, on purpose: the clients wait for it.
    let first = "  - { step: exec, command: 'test -e \(folder)/go || exec sleep 300' }\n"
    try await Pooled.run("pooledseal", before: first) { pooled in
      let scene = pooled.scene
      let engine = try await pooled.start()
      try await scene.waitUntilReady(engine)
      pooled.reader.start(on: pooled.pooler.connection)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await cutover.waitUntil("the seal", within: .seconds(30)) {
        try await scene.sourceValue("SELECT state FROM replicate.fence()") == "sealed"
      }
      try await waitUntil("the first step") {
        let running = "SELECT count(*) FROM replicate.switch_step WHERE state = 'running'"
        return try await scene.targetValue(running) == "1"
      }
      #expect(try await pooled.pooler.isPaused())
      engine.kill9()
      try await waitUntil("the clients", within: .seconds(10)) { try await !pooled.pooler.isPaused() }
      let before = pooled.reader.report.reads
      try await waitUntil("reads") { pooled.reader.report.reads > before + 5 }
      try Data().write(to: URL(filePath: "\(folder)/go"))
      let trail = try await scene.report().events.map(\.what)
      let warning = trail.first { $0.hasPrefix("warning of the switch: step 2, pgbouncer: ") }
      #expect(warning?.contains("wait until the steps before it are done") == true, "\(trail)")
      let next = try await pooled.start()
      #expect(try await next.waitForEnd(within: .seconds(60)) == 0, "\(next.errors)")
      try await cutover.end()
      pooled.ledger.start(on: pooled.pooler.connection)
      try await pooled.waitForWrites()
      await pooled.stopClients()
      pooled.expectUndisturbedClients()
      #expect(try await pooled.ledger.verify(on: scene.databases.target) == [])
    }
  }

  /// Kills the engine after the fence, where a writer beside the pooler keeps it.
  private func killWhilePaused(_ pooled: Pooled, withWatch: Bool) async throws {
    let scene = pooled.scene
    let engine = try await pooled.start()
    try await scene.waitUntilReady(engine)
    try await scene.armByFailing()
    let idle = try await SQLSession(scene.databases.source)
    try await idle.execute("BEGIN")
    try await idle.execute("INSERT INTO ledger_account VALUES (50, 0)")
    pooled.reader.start(on: pooled.pooler.connection)
    try await waitUntil("reads") { pooled.reader.report.reads > 5 }
    let cutover = try await scene.replicate.start("cutover", "--yes", "--timeout", "20s")
    try await scene.waitForFence(cutover)
    #expect(try await pooled.pooler.isPaused())
    let watches = try watches(of: engine.processID)
    #expect(watches.count == 1)
    if withWatch { for watch in watches { kill(watch, SIGKILL) } }
    engine.kill9()
    #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
    try await idle.execute("ROLLBACK")
    await idle.close()
    try await cutover.end()
  }

  /// A new engine undoes the cutover, and the next one succeeds.
  private func succeed(_ pooled: Pooled) async throws {
    let engine = try await pooled.start()
    try await pooled.scene.waitUntilReady(engine)
    #expect(try await !pooled.pooler.isPaused())
    #expect(try await pooled.scene.status().cutover?.timeline.map(\.step) == ["unfence", "resume"])
    pooled.ledger.start(on: pooled.pooler.connection)
    try await pooled.waitForWrites()
    let cutover = try await pooled.scene.replicate.run("cutover", "--yes")
    #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
    try await pooled.waitForWrites()
    await pooled.stopClients()
    pooled.expectUndisturbedClients()
    #expect(try await pooled.ledger.verify(on: pooled.scene.databases.target) == [])
  }

  /// The processes that the engine has started to stand in for it.
  private func watches(of engine: Int32) throws -> [Int32] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.filter { pid in
      let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
      let stat = FileManager.default.contents(atPath: "/proc/\(pid)/stat") ?? Data()
      // The parent comes after the name and the state (manual page proc(5)).
      let fields = String(decoding: stat, as: UTF8.self).split(separator: ")").last?.split(separator: " ")
      guard let fields, fields.count > 1, Int32(fields[1]) == engine else { return false }
      return String(decoding: line, as: UTF8.self).contains("watch-poolers")
    }
  }

  @Test("A check says what is wrong with poolers, and changes nothing")
  func check() async throws {
    try await Pooled.run("pooledcheck") { pooled in
      let before = try pooled.pooler.contents()
      func check(_ plan: String) async throws -> Finished {
        try Data(plan.utf8).write(to: URL(filePath: pooled.plan))
        return try await pooled.scene.replicate.run(
          ["check", "--config", pooled.plan] + ClusterPair.shared.encryptionArguments)
      }
      let good = Pooled.step(pooled.pooler, pooled.scene)
      let passed = try await check(good)
      #expect(passed.exitCode == 0, "\(passed.output)\(passed.errors)")
      #expect(passed.output.contains("pools transactions"), "\(passed.output)")
      let name = pooled.scene.databases.name
      let wrong = [
        (good.replacing("port='6432'", with: "port='6433'"), "admin"),
        (good.replacing("database: \(name)", with: "database: nobody"), "knows no database nobody"),
        (good.replacing("pgbouncer.ini", with: "other.ini"), "cannot be changed"),
      ]
      for (plan, words) in wrong {
        let refused = try await check(plan)
        #expect(refused.exitCode == 3, "\(words): \(refused.output)\(refused.errors)")
        #expect(refused.output.contains(words), "\(refused.output)")
      }
      try await pooled.pooler.console("PAUSE \"\(name)\"")
      let paused = try await check(good)
      #expect(paused.exitCode == 3 && paused.output.contains("is paused"), "\(paused.output)")
      #expect(try pooled.pooler.contents() == before)
      try await pooled.pooler.console("RESUME \"\(name)\"")
      let line = try #require(before.split(separator: "\n").first { $0.hasPrefix("\(name) = ") })
      let alias = "billing = dbname=\(name)\(line.dropFirst("\(name) =".count))"
      try Data(before.replacing(line, with: "\(line)\n\(alias)").utf8)
        .write(to: URL(filePath: pooled.pooler.configuration))
      try await pooled.pooler.console("RELOAD")
      let aliased = try await check(good)
      #expect(aliased.exitCode == 0, "\(aliased.output)\(aliased.errors)")
      #expect(
        aliased.output.contains("leads clients of \"billing\" to the same database"), "\(aliased.output)")
      let typo = try await check(good.replacing("config:", with: "confg:"))
      #expect(typo.exitCode == 64)
      #expect(typo.errors.contains("confg"), "\(typo.errors)")
    }
  }

  private func port(_ server: ConnectionString) throws -> String {
    try #require(server.text.firstMatch(of: /port='?(\d+)/).map { String($0.output.1) })
  }
}
