import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Nothing is written to a target unless it is encrypted in flight and at rest, or the user insists.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)), .grantableParameters)
struct EncryptionTests {
  @Test("A target without TLS is refused, and told how to mend it", .targetWithoutTLS)
  func plaintext() async throws {
    try await withBlindRole("plain") { journey, target in
      let replicate = self.replicate(journey, target.with(["sslmode": "disable"]))
      let refusal = Refusal(databases: ends(journey), replicate: replicate, secrets: [Self.password])
      // Evidence of the storage does not make up for it.
      let evidence = ["--encryption-evidence", "echo vault"]
      try await refusal.expect(
        [["check"] + evidence, ["start"] + evidence], exitCode: 3,
        words: ["The connection to the target is not encrypted", "sslmode=require"])
    }
  }

  @Test("A target without evidence is refused; a command that fails is none, and says why")
  func noEvidence() async throws {
    try await withBlindRole("noevidence") { journey, target in
      let refusal = Refusal(
        databases: ends(journey), replicate: replicate(journey, target), secrets: [Self.password])
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

  @Test("A command attests the target it was told of; without it a resumption is refused")
  func command() async throws {
    try await withBlindRole("attested") { journey, target in
      let replicate = self.replicate(journey, target)
      let command =
        "test \"$REPLICATE_TARGET_DATABASE\" = '\(journey.databases.name)' && echo key 7 in vault"
      let engine = try await replicate.start("start", "--encryption-evidence", command)
      try await journey.waitUntilReady(engine)
      let encryption = try await journey.status().target.encryption
      #expect(encryption.status == .attested && encryption.provider == .command)
      #expect(encryption.detail == "key 7 in vault")
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")

      let resumption = try await replicate.run("start")
      #expect(resumption.exitCode == 3, "\(resumption.errors)")
      #expect(resumption.errors.contains("--encryption-evidence"))
      let again = try await replicate.start("start", "--encryption-evidence", command)
      try await journey.waitUntilReady(again)
      #expect(try await journey.status().failure == nil)
    }
  }

  @Test("With --allow-unencrypted-target it goes on, warns, and the status says so", .targetWithoutTLS)
  func allowed() async throws {
    try await withBlindRole("allowed") { journey, target in
      let replicate = self.replicate(journey, target.with(["sslmode": "disable"]))
      let check = try await replicate.run("check", "--allow-unencrypted-target")
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      #expect(check.output.contains("warning  encryption: target"), "\(check.output)")
      let engine = try await replicate.start("start", "--allow-unencrypted-target")
      try await journey.waitUntilReady(engine)
      #expect(engine.errors.contains("no evidence"), "\(engine.errors)")
      let told = try await journey.status().target
      #expect(told.encryption.status == .unverified)
      #expect(!told.encryption.detail.isEmpty)
      #expect(!told.tls)
    }
  }

  private static let password = "bl1nd"

  private func ends(_ journey: Journey) -> (source: ConnectionString, target: ConnectionString) {
    (journey.databases.source, journey.databases.target)
  }

  private func replicate(_ journey: Journey, _ target: ConnectionString) -> ReplicateProcess {
    ReplicateProcess(source: journey.databases.source, target: target)
  }

  /// A target reached by a role that may migrate into it, but not learn where the server keeps its data:
  /// then the program cannot see the storage itself, whatever this machine has.
  private func withBlindRole(
    _ name: String, _ body: @Sendable (Journey, ConnectionString) async throws -> Void
  ) async throws {
    let pair = try await ClusterPair.shared
    let role = "encryption_\(name)_\(getpid())"
    let owner = "\(role)_owner"
    try await PreflightScene.execute(["CREATE ROLE \(owner)"], on: pair.source)
    try await PreflightScene.execute(
      [
        "CREATE ROLE \(owner)", "CREATE ROLE \(role) LOGIN PASSWORD '\(Self.password)' IN ROLE \(owner)",
        "GRANT SET ON PARAMETER session_replication_role TO \(role)",
      ], on: pair.target)
    try await Journey.run(name) { journey in
      try await journey.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "ALTER TABLE t OWNER TO \(owner)"
      )
      // A role that is no superuser gives a table only to a role that may create in its schema.
      try await journey.target(
        "ALTER DATABASE \(journey.databases.name) OWNER TO \(role)",
        "GRANT CREATE ON SCHEMA public TO \(owner)")
      try await body(
        journey, journey.databases.target.with(["user": role, "password": Self.password]))
    }
    try await PreflightScene.execute(["DROP ROLE \(owner)"], on: pair.source)
    try await PreflightScene.execute(
      ["DROP OWNED BY \(role)", "DROP ROLE \(role)", "DROP ROLE \(owner)"], on: pair.target)
  }
}

extension Trait where Self == ConditionTrait {
  /// For a role that may set `session_replication_role` without being a superuser.
  static var grantableParameters: Self {
    .enabled("GRANT … ON PARAMETER came with PostgreSQL 15") {
      // Before any suite has its servers.
      try await ClusterPool.shared.withPair(for: .max) {
        let session = try await SQLSession(ClusterPair.shared.target)
        let version = try await session.value("SHOW server_version_num").flatMap { Int($0) } ?? 0
        await session.close()
        return version >= 150_000
      }
    }
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
