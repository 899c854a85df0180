import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Nothing is written to a target unless it is encrypted in flight and at rest, or the user insists.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)), .grantableParameters)
struct EncryptionTests {
  @Test("A target without TLS is refused, with what mends it", .targetWithoutTLS)
  func plaintext() async throws {
    try await withBlindRole("plain") { scene, target in
      let replicate = self.replicate(scene, target.with(["sslmode": "disable"]))
      let refusal = Refusal(databases: ends(scene), replicate: replicate, secrets: [Self.password])
      // Evidence of the storage does not make up for it.
      let evidence = [
        "--encryption-evidence", "test -z \"$REPLICATE_SOURCE$REPLICATE_TARGET\" && echo vault",
      ]
      try await refusal.expect(
        [["check"] + evidence, ["start"] + evidence], exitCode: 3,
        words: ["The connection to the target is not encrypted", "sslmode=require"])
    }
  }

  @Test("A target without evidence is refused; a command that fails is none, and says why")
  func noEvidence() async throws {
    try await withBlindRole("noevidence") { scene, target in
      let refusal = Refusal(
        databases: ends(scene), replicate: replicate(scene, target), secrets: [Self.password])
      try await refusal.expect(
        [["check"], ["start"]], exitCode: 3,
        words: ["no evidence", "--encryption-evidence", "--allow-unencrypted-target"])
      let failing = ["--encryption-evidence", "echo claimed; echo no such key >&2; exit 7"]
      try await refusal.expect(
        [["check"] + failing, ["start"] + failing], exitCode: 3, words: ["exited with 7", "no such key"])
      let missing = ["--encryption-evidence", "/nonexistent/prove"]
      try await refusal.expect([["start"] + missing], exitCode: 3, words: ["exited with 127"])
    }
  }

  @Test("A command attests the target that it is given; without it a resumption is refused")
  func command() async throws {
    try await withBlindRole("attested") { scene, target in
      let replicate = self.replicate(scene, target)
      let command =
        "test \"$REPLICATE_TARGET_DATABASE\" = '\(scene.databases.name)' && echo key 7 in vault"
      let engine = try await replicate.start("start", "--encryption-evidence", command)
      try await scene.waitUntilReady(engine)
      let encryption = try await scene.status().target.encryption
      #expect(encryption.status == .attested && encryption.provider == .command)
      #expect(encryption.detail == "key 7 in vault")
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")

      let resumption = try await replicate.run("start")
      #expect(resumption.exitCode == 3, "\(resumption.errors)")
      #expect(resumption.errors.contains("--encryption-evidence"))
      let again = try await replicate.start("start", "--encryption-evidence", command)
      try await scene.waitUntilReady(again)
      #expect(try await scene.status().failure == nil)
    }
  }

  @Test("With --allow-unencrypted-target it goes on, warns, and the status says so", .targetWithoutTLS)
  func allowed() async throws {
    try await withBlindRole("allowed") { scene, target in
      let replicate = self.replicate(scene, target.with(["sslmode": "disable"]))
      let check = try await replicate.run("check", "--allow-unencrypted-target")
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      #expect(check.output.contains("warning  encryption: target"), "\(check.output)")
      let engine = try await replicate.start("start", "--allow-unencrypted-target")
      try await scene.waitUntilReady(engine)
      #expect(engine.errors.contains("no evidence"), "\(engine.errors)")
      let reported = try await scene.status().target
      #expect(reported.encryption.status == .unverified)
      #expect(!reported.encryption.detail.isEmpty)
      #expect(!reported.tls)
    }
  }

  private static let password = "bl1nd"

  private func ends(_ scene: Scene) -> (source: ConnectionString, target: ConnectionString) {
    (scene.databases.source, scene.databases.target)
  }

  private func replicate(_ scene: Scene, _ target: ConnectionString) -> ReplicateProcess {
    ReplicateProcess(source: scene.databases.source, target: target)
  }

  /// A target reached by a role that may migrate into it, but not learn where the server keeps its data:
  /// then the program cannot see the storage itself, whatever this machine has.
  private func withBlindRole(
    _ name: String, _ body: @Sendable (Scene, ConnectionString) async throws -> Void
  ) async throws {
    let pair = try await ClusterPair.shared
    let role = "encryption_\(name)_\(getpid())"
    let owner = "\(role)_owner"
    try await SQLSession.run(["CREATE ROLE \(owner)"], on: pair.source)
    try await SQLSession.run(
      [
        "CREATE ROLE \(owner)", "CREATE ROLE \(role) LOGIN PASSWORD '\(Self.password)' IN ROLE \(owner)",
        "GRANT SET ON PARAMETER session_replication_role TO \(role)",
      ], on: pair.target)
    try await Scene.run(name) { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "ALTER TABLE t OWNER TO \(owner)"
      )
      // A role that is no superuser gives a table only to a role that may create in its schema.
      try await scene.target(
        "ALTER DATABASE \(scene.databases.name) OWNER TO \(role)",
        "GRANT CREATE ON SCHEMA public TO \(owner)")
      try await body(
        scene, scene.databases.target.with(["user": role, "password": Self.password]))
    }
    try await SQLSession.run(["DROP ROLE \(owner)"], on: pair.source)
    try await SQLSession.run(
      ["DROP OWNED BY \(role)", "DROP ROLE \(role)", "DROP ROLE \(owner)"], on: pair.target)
  }
}

extension Trait where Self == ConditionTrait {
  /// For a role that may set `session_replication_role` without being a superuser.
  static var grantableParameters: Self {
    .enabled("GRANT … ON PARAMETER came with PostgreSQL 15") { try await ClusterPair.targetMajor() >= 15 }
  }
  /// For a connection that is not encrypted; the target of compose, for one, admits none.
  static var targetWithoutTLS: Self {
    .enabled("the target must admit connections without TLS") {
      try await ClusterPool.shared.withPair(for: .max) {
        let target = try await ClusterPair.shared.target.with(["sslmode": "disable"])
        do {
          let session = try await SQLSession(target)
          await session.close()
          return true
        } catch let refusal as SQLFailure where "\(refusal)".contains("no encryption") {
          return false
        }
      }
    }
  }
}
