import Clusters
import Foundation
import LibPQ
import Testing

@testable import MigrationEngine

/// Steps that open and end sessions as the application does.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct SessionStepTests {
  /// Runs `body` with a role of the application's on both ends.
  private static func run(_ name: String, _ body: (Scene, _ role: String) async throws -> Void) async throws {
    let role = "\(name)_\(getpid())"
    let pair = try await ClusterPair.shared
    for server in [pair.source, pair.target] {
      try await SQLSession.run(["CREATE ROLE \(role) LOGIN PASSWORD 'app'"], on: server)
    }
    func drop() async {
      for server in [pair.source, pair.target] {
        try? await SQLSession.run(["DROP ROLE \(role)"], on: server)
      }
    }
    do {
      try await Scene.run(name) { try await body($0, role) }
    } catch {
      await drop()
      throw error
    }
    await drop()
  }

  private static func plan(_ yaml: String) async throws -> String {
    let path = try await freshDirectory() + "/replicate.yaml"
    try Data("switch:\n\(yaml)".utf8).write(to: URL(filePath: path))
    return path
  }

  @Test("The application's sessions on the old end are ended, busy ones later, and nobody else's")
  func ended() async throws {
    try await Self.run("endsessions") { scene, role in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "GRANT SELECT ON t TO \(role)")
      let plan = try await Self.plan(
        "  - step: terminate-sessions\n    roles: [\(role)]\n    addresses: [127.0.0.0/8]\n    grace: 3s\n")
      let engine = try await scene.start("--config", plan, reverse: true)
      try await scene.waitUntilReady(engine)
      let login = scene.databases.source.with(["user": role, "password": "app"])
      let idle = try await SQLSession(login)
      let busy = try await SQLSession(login)
      let forgotten = try await SQLSession(login)
      try await forgotten.execute("BEGIN")
      _ = try await forgotten.value("SELECT count(*) FROM t")
      let others = try await SQLSession(scene.databases.source)
      let reading = Task { try await busy.value("SELECT count(*) FROM t, pg_sleep(1)") }
      try await engine.waitUntil("the long read", within: .seconds(20)) {
        try await scene.sourceValue(
          "SELECT count(*) FROM pg_stat_activity WHERE usename = '\(role)' AND state = 'active'") == "1"
      }
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(
        cutover.output.contains(/ended (1 sessions at once, 2|2 sessions at once, 1) after what they were/),
        "\(cutover.output)"
      )
      #expect(try await reading.value == "1", "a read is let to its end")
      for session in [idle, busy, forgotten] {
        await #expect(throws: (any Error).self) { try await session.value("SELECT 1") }
        await session.close()
      }
      #expect(try await others.value("SELECT 1") == "1")
      await others.close()
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      // In a rollback those on the target are ended.
      let moved = try await SQLSession(scene.databases.target.with(["user": role, "password": "app"]))
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(rollback.output.contains("ended 1 sessions at once, 0 after"), "\(rollback.output)")
      await #expect(throws: (any Error).self) { try await moved.value("SELECT 1") }
      await moved.close()
    }
  }

  @Test("Whose sessions cannot be seen or ended is found before, and what is advised suffices")
  func mayNotEnd() async throws {
    try await Self.run("mayend") { scene, role in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let plan = try await Self.plan("  - step: terminate-sessions\n    roles: [postgres, nobody_is_this]\n")
      func step(_ roles: [String]) -> TerminateSessionsAction {
        TerminateSessionsAction(step: SwitchStep.TerminateSessions(roles: roles))
      }
      let check = try await scene.replicate.run("check", "--config", plan)
      #expect(
        check.exitCode == 3 && check.output.contains("There is no role \"nobody_is_this\""), "\(check.output)"
      )
      let server = try await ClusterPair.shared.source
      let other = "\(role)_other"
      try await SQLSession.run(["CREATE ROLE \(other)"], on: server)
      let end = Switchover.End(host: "", port: "", database: "")
      var inside = SwitchScene(source: end, target: end)
      let string = try LibPQ.ConnectionString(
        scene.databases.source.with(["user": role, "password": "app"]).text, for: "source")
      inside.connections = (left: string, next: string)
      for _ in 0..<2 {
        let finding = try #require(await step([other]).examine(inside).first)
        let grant = try #require(finding.remedy.firstMatch(of: /GRANT [^;]*;/)?.output)
        try await SQLSession.run([String(grant)], on: server)
      }
      #expect(await step([other]).examine(inside).isEmpty)
      #expect(await step([]).examine(inside).isEmpty)
      try await SQLSession.run(["DROP ROLE \(other)"], on: server)
    }
  }

  @Test("What the application could not do on the target aborts the cutover before its fence")
  func tried() async throws {
    try await Self.run("tries") { scene, role in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      func plan(_ login: [String: String], _ server: Clusters.ConnectionString) async throws -> String {
        try await Self.plan(
          """
            - step: try
              connection: "\(server.with(login).text)"
              statement: SELECT count(*) FROM t

          """)
      }
      let login = ["user": role, "password": "app"]
      for (login, server, words) in [
        (["user": role, "password": "wrong"], scene.databases.target, "password authentication failed"),
        (login, scene.databases.source, "its connection leads to another database than the target"),
      ] {
        let check = try await scene.replicate.run("check", "--config", try await plan(login, server))
        #expect(check.exitCode == 3 && check.output.contains(words), "\(check.output)")
        #expect(!check.output.contains("wrong"), "\(check.output)")
      }
      let engine = try await scene.start("--config", try await plan(login, scene.databases.target))
      try await scene.waitUntilReady(engine)
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(
        refused.exitCode == 5 && refused.errors.contains("permission denied for table t"), "\(refused.errors)"
      )
      let attempt = try #require(try await scene.status().cutover)
      #expect(!attempt.timeline.contains { $0.step == "fence" }, "\(attempt.timeline)")
      try await scene.source("INSERT INTO t VALUES (2)")
      try await scene.source("GRANT SELECT ON t TO \(role)")
      try await scene.target("GRANT SELECT ON t TO \(role)")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(cutover.output.contains("connected, and ran its statement"), "\(cutover.output)")
    }
  }
}
