import Clusters
import Foundation
import LibPQ
import MigrationEngine
import Testing

/// Passwords that change while a migration runs, from a command that is asked for each connection.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(3)))
struct PasswordTests {
  private static func withoutPassword(_ server: Clusters.ConnectionString) throws -> Clusters.ConnectionString
  {
    Clusters.ConnectionString(try LibPQ.ConnectionString(server.text, for: "source").redacted)
  }

  @Test("A rotated password is asked for; while the command fails the stream goes on, and what waits says so")
  func rotated() async throws {
    try await Mover.with("rotated") { scene, mover in
      let file = try await freshDirectory() + "/password"
      func write(_ password: String) throws { try Data("\(password)\n".utf8).write(to: URL(filePath: file)) }
      try write(mover.password)
      let login = scene.databases.source.with(["user": mover.name])
      let replicate = ReplicateProcess(
        source: try Self.withoutPassword(login), target: scene.databases.target,
        environment: [
          "REPLICATE_SOURCE_PASSWORD_COMMAND": """
          test -z "$REPLICATE_SOURCE$REPLICATE_TARGET" && cat '\(file)'
          """
        ])
      let own = Scene(databases: scene.databases, replicate: replicate)
      try await own.source("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
      let engine = try await own.start()
      try await own.waitUntilReady(engine)

      try await mover.changePassword()
      try write("another")
      try await mover.end("replicate stream")
      try await own.source("INSERT INTO t VALUES (2, 2)")
      try await engine.waitUntil("the row after the rotation", within: .seconds(30)) {
        try await own.targetValue("SELECT v FROM t WHERE id = 2") == "2"
      }
      try await own.waitUntilReady(engine)

      try FileManager.default.removeItem(atPath: file)
      let stream = try await mover.pid("replicate stream")
      try await mover.end("replicate monitor")
      try await own.waitUntil("a status that names the command", engine, within: .seconds(20)) {
        $0.stream.waitsFor?.contains("the command ended with") == true && !$0.ready
      }
      try await own.source("INSERT INTO t VALUES (3, 3)")
      try await engine.waitUntil("the row meanwhile", within: .seconds(20)) {
        try await own.targetValue("SELECT v FROM t WHERE id = 3") == "3"
      }
      let refused = try await replicate.run("check")
      #expect(refused.exitCode != 0)
      #expect(refused.errors.contains("--source-password-command"), "\(refused.errors)")
      try write("another")
      try await own.waitUntilReady(engine)
      #expect(try await mover.pid("replicate stream") == stream, "the stream has not begun anew")
      let cutover = try await replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      for secret in [mover.password, "another"] { #expect(!engine.errors.contains(secret)) }
    }
  }

  @Test("A password that is given as well as a command is refused before anything is asked")
  func twice() async throws {
    try await Scene.run("twicegiven") { scene in
      let check = try await scene.replicate.run("check", "--target-password-command", "echo x")
      #expect(check.exitCode == 64, "\(check.output)\(check.errors)")
      #expect(check.errors.contains("a command for one is given as well"), "\(check.errors)")
    }
  }

  @Test(
    "The word rds-iam takes a login token of the AWS CLI, which shows nowhere",
    .enabled(if: Moto.isInstalled, "needs moto_server and aws"))
  func token() async throws {
    try await Scene.run("iam") { scene in
      let replicate = ReplicateProcess(
        source: scene.databases.source, target: try Self.withoutPassword(scene.databases.target),
        environment: [
          "REPLICATE_TARGET_PASSWORD_COMMAND": "rds-iam", "AWS_ACCESS_KEY_ID": "key",
          "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-west-1",
        ])
      // The server knows no such token: it was sent, and refused.
      let check = try await replicate.run("check")
      #expect(check.exitCode == 1, "\(check.output)\(check.errors)")
      #expect(check.errors.contains("password authentication failed"), "\(check.errors)")
      #expect(!(check.output + check.errors).contains("X-Amz-"), "\(check.errors)")
      let nowhere = try await replicate.with([
        "REPLICATE_TARGET": "service=none", "REPLICATE_SOURCE": "host=127.0.0.1 port=1",
      ]).run("status")
      #expect(nowhere.exitCode == 1, "\(nowhere.output)\(nowhere.errors)")
    }
  }
}
