import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// After the seal the engine goes on until the target is open, whatever fails on the way.
@Suite(.serialized, .servers(about: 120), .timeLimit(.minutes(5)))
struct AfterSealTests {
  @Test("A lock and an ended session delay the opening, are reported, and the engine goes on by itself")
  func triedAgain() async throws {
    try await Scene.run("opensagain") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER watch ON sql_drop EXECUTE FUNCTION f()")
      let held = try await HoldingPoint("before open")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      let locker = try await SQLSession(scene.databases.target)
      try await locker.execute("BEGIN")
      try await locker.execute("COMMENT ON FUNCTION replicate.held() IS '[]'")
      try held.release()
      // Each opening that waits is ended by force; between two of them the status says why.
      try await engine.waitUntil("a status that says why the target is not open", within: .seconds(40)) {
        _ = try await scene.targetValue(
          """
          SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'replicate cutover' AND wait_event_type = 'Lock'
          """)
        return try await scene.status().cutover?.reason?.contains("opening the target for writes") == true
      }
      #expect(
        try await scene.refusal(of: "INSERT INTO t VALUES (1)", on: scene.databases.source) == "25006")
      try await locker.execute("ROLLBACK")
      await locker.close()
      #expect(try await cutover.waitForEnd(within: .seconds(40)) == 0, "\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      #expect(
        try await scene.refusal(of: "INSERT INTO t VALUES (1)", on: scene.databases.target) == nil)
      let report = try #require(try await scene.status().cutover)
      #expect(report.result == .complete && report.reason == nil, "\(report)")
    }
  }

  private func text(_ path: String) throws -> String {
    String(decoding: try #require(FileManager.default.contents(atPath: path)), as: UTF8.self)
  }

  /// Kills the source's server, and starts it again when `body` has ended.
  private func withDeadSource(_ body: () async throws -> Void) async throws {
    let cluster = try #require(try await ClusterPair.shared.sourceCluster)
    try await cluster.kill9()
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    try await cluster.start()
    try result.get()
  }

  private func waitForComplete(_ scene: Scene, _ engine: BackgroundProcess) async throws {
    do {
      try await scene.waitUntil("a complete cutover", engine, within: .seconds(30)) {
        $0.phase == .complete
      }
    } catch {
      throw HarnessError("\(error): \(engine.errors)")
    }
    #expect(try await scene.refusal(of: "UPDATE t SET v = 1", on: scene.databases.target) == nil)
  }

  @Test(
    "A source that is lost for good after the seal stops neither the opening nor the steps after it",
    .ownServers, arguments: ["sealed and noted", "after open"])
  func lostSource(_ step: String) async throws {
    try await Scene.run("lostsource") { scene in
      try await scene.source(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)",
        "CREATE SEQUENCE counter",
        "SELECT setval('counter', 77)", "INSERT INTO t (v) VALUES (5)")
      let folder = try await freshDirectory()
      let held = try await HoldingPoint(step)
      let engine = try await scene.start(
        "--exec", "echo done $REPLICATE_FENCE_LSN >>\(folder)/log", meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      try await withDeadSource {
        try held.release()
        try await waitForComplete(scene, engine)
        #expect(
          try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)\(engine.errors)")
        let log = try text("\(folder)/log")
        #expect(log.hasPrefix("done ") && log.contains("/"), "\(log)")
        try await waitUntil("an identity column as it was", within: .seconds(20)) {
          try await scene.refusal(of: "INSERT INTO t VALUES (9, 1)", on: scene.databases.target)
            == "428C9"
        }
        #expect(try await scene.targetValue("SELECT nextval('counter')") == "78")
        engine.kill9()
      }
    }
  }

  @Test("A step that runs when the source is lost runs to its end, once", .ownServers)
  func lostDuringStep() async throws {
    try await Scene.run("losthere") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)")
      let folder = try await freshDirectory()
      let engine = try await scene.start(
        "--exec",
        "touch \(folder)/met; until test -e \(folder)/go; do sleep 0.1; done; echo x >>\(folder)/log")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await engine.waitUntil("the step", within: .seconds(20)) {
        FileManager.default.fileExists(atPath: "\(folder)/met")
      }
      try await withDeadSource {
        try await engine.waitUntil("the loss to be noticed", within: .seconds(20)) {
          engine.errors.contains("server closed the connection")
        }
        try Data().write(to: URL(filePath: "\(folder)/go"))
        try await waitForComplete(scene, engine)
        #expect(
          try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)\(engine.errors)")
        #expect(try Data(contentsOf: URL(filePath: "\(folder)/log")) == Data("x\n".utf8))
        engine.kill9()
      }
    }
  }

  @Test("An engine that begins without the source finishes what the target knows to be sealed", .ownServers)
  func restartedWithoutSource() async throws {
    try await Scene.run("lostrestart") { scene in
      try await scene.source("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)")
      let folder = try await freshDirectory()
      let step = ["--exec", "echo done $REPLICATE_SOURCE_HOST $REPLICATE_FENCE_LSN >>\(folder)/log"]
      let engine = try await scene.start(step, meeting: "sealed and noted=kill")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(engine.errors)")
      try await withDeadSource {
        let next = try await scene.start(step)
        #expect(try await next.waitForEnd(within: .seconds(40)) == 0, "\(next.errors)")
        #expect(try await scene.status().phase == .complete)
        #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)\(next.errors)")
        let log = try text("\(folder)/log")
        #expect(log.hasPrefix("done 127.0.0.1 ") && log.contains("/"), "\(log)")
        try await waitUntil("an identity column as it was", within: .seconds(20)) {
          try await scene.refusal(of: "INSERT INTO t VALUES (9, 1)", on: scene.databases.target)
            == "428C9"
        }
        let report = try #require(try await scene.status().cutover)
        #expect(report.timeline.contains { $0.step == "mark" && $0.detail.contains("nonce") }, "\(report)")
        #expect(try #require(report.writePauseSeconds) > 0)
      }
    }
  }

  @Test("A source that died at its seal: only the operator's word opens the target", .ownServers)
  func lostAtSeal() async throws {
    try await Scene.run("lostatseal") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
      let engine = try await scene.start("--exec", "true", meeting: "after seal=kill")
      try await scene.waitUntilReady(engine)
      let forced = ["start", "--no-reverse", "--without-source"]
      let early = try await scene.replicate.run(forced + ["--yes"])
      #expect(early.exitCode == 64 && early.errors.contains("the source answers"), "\(early.errors)")
      let cutover = try await scene.replicate.start("cutover", "--yes")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(engine.errors)")
      try await withDeadSource {
        let arguments = ["start", "--no-reverse"] + (try await ClusterPair.shared.encryptionArguments)
        let plain = try await scene.replicate.run(arguments)
        #expect(plain.exitCode == 1, "\(plain.errors)")
        #expect(plain.errors.contains("--without-source"), "\(plain.errors)")
        let write = "UPDATE t SET v = 1"
        #expect(try await scene.refusal(of: write, on: scene.databases.target) == "25006")
        let asked = try await scene.replicate.run(forced)
        #expect(asked.exitCode == 64 && asked.errors.contains("--yes"), "\(asked.errors)")
        let lost = try await scene.replicate.run(forced + ["--yes"])
        #expect(lost.exitCode == 0, "\(lost.output)\(lost.errors)")
        #expect(lost.output.contains("the source was lost at its seal"), "\(lost.output)")
        #expect(try await scene.refusal(of: write, on: scene.databases.target) == nil)
        #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)")
      }
    }
  }

  @Test("Sessions of an engine before are ended on both ends before the next one goes on")
  func leftovers() async throws {
    try await Scene.run("leftovers") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      var sessions: [SQLSession] = []
      for end in [scene.databases.source, scene.databases.target] {
        sessions.append(try await SQLSession(end, settings: ["application_name": "replicate cutover"]))
      }
      let next = try await scene.start()
      try await scene.waitUntilReady(next)
      for session in sessions {
        await #expect(throws: SQLFailure.self) { try await session.execute("SELECT 1") }
        await session.close()
      }
    }
  }

  @Test("A target that hangs, instead of failing, keeps no writer waiting beyond the timeout", .ownServers)
  func frozenTarget() async throws {
    let cluster = try #require(try await ClusterPair.shared.targetCluster)
    try await Scene.run("frozen") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE SEQUENCE counter")
      let held = try await HoldingPoint("before finalise")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes", "--timeout", "2s")
      try await held.wait(for: engine)
      let backend = try await scene.targetValue(
        """
        SELECT pid FROM pg_stat_activity WHERE datname = current_database()
          AND application_name = 'replicate cutover'
        """)
      let postmaster = try text("\(cluster.socketDirectory)/postmaster.pid").split(separator: "\n").first
      let frozen = try [
        #require(postmaster.flatMap { Int32($0) }), #require(backend.flatMap { Int32($0) }),
      ]
      for pid in frozen { #expect(kill(pid, SIGSTOP) == 0) }
      defer { for pid in frozen { kill(pid, SIGCONT) } }
      try held.release()
      let began = ContinuousClock.now
      try await waitUntil("a source that takes writes", within: .seconds(20), every: .milliseconds(50)) {
        try await scene.refusal(of: "INSERT INTO t VALUES (1)", on: scene.databases.source) == nil
      }
      #expect(ContinuousClock.now - began < .seconds(3))
      #expect(
        try await scene.sourceValue("SELECT state FROM replicate.fence()") == "open", "not by its expiry")
      for pid in frozen { kill(pid, SIGCONT) }
      #expect(try await cutover.waitForEnd(within: .seconds(40)) == 5, "\(cutover.errors)\(engine.errors)")
    }
  }

  @Test(
    "A standby that is lost at the seal delays the cutover for seconds, and it is complete", .ownServers)
  func standbyLostAtSeal() async throws {
    try await Scene.run("syncseal") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
      let held = try await HoldingPoint("before seal")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      try await scene.source(
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
      let result: Result<Void, any Error>
      do {
        try await waitUntil("a server that waits for its standby", within: .seconds(10)) {
          try await scene.sourceValue("SHOW synchronous_standby_names") == "nobody"
        }
        try held.release()
        let code = try await cutover.waitForEnd(within: .seconds(40))
        #expect(code == 0, "\(cutover.errors)\(engine.errors)")
        result = .success(())
      } catch {
        result = .failure(error)
      }
      try await scene.source("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
      try result.get()
      #expect(try await engine.waitForEnd(within: .seconds(60)) == 0, "\(engine.errors)")
      let report = try #require(try await scene.status().cutover)
      #expect(report.timeline.count { $0.step == "drain" } == 2, "proved anew: \(report.timeline)")
      let write = "UPDATE t SET v = 2"
      #expect(try await scene.refusal(of: write, on: scene.databases.target) == nil)
      #expect(try await scene.refusal(of: write, on: scene.databases.source) == "25006")
    }
  }

  @Test("A commit that waits for a standby that is lost delays neither seal nor un-fencing for long")
  func lostStandby() async throws {
    try await Scene.fenced("standby") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      func withoutStandby(_ body: @escaping @Sendable () async throws -> Void) async throws {
        try await scene.with(["synchronous_standby_names": "nobody"], on: .source) {
          try await waitUntil("a server that waits for its standby", within: .seconds(10)) {
            try await scene.sourceValue("SHOW synchronous_standby_names") == "nobody"
          }
          let running = UnderWay(body)
          try await waitUntil("the commit's end", within: .seconds(12)) { await running.hasEnded }
          try await running.value
        }
      }
      _ = try await guardian.fence(expiringAfter: .seconds(100))
      try await withoutStandby { try await guardian.unfence() }
      #expect(try await SourceState(scene.onlooker).fence() == .open)
      let fence = try await guardian.fence(expiringAfter: .seconds(100))
      try await withoutStandby {
        do {
          _ = try await guardian.seal(fence)
          Issue.record("the standby has not confirmed it")
        } catch {
          #expect("\(error)".contains("sealing the source"), "\(error)")
        }
      }
      #expect(try await SourceState(scene.onlooker).fence() == .sealed, "its outcome can be looked up")
    }
  }
}
