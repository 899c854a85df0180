import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// A provider's servers, whose superuser is nobody's: what Amazon RDS and Aurora refuse, on PostgreSQL's own.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(4)), .ownServers, .servers(atLeast: 15))
struct ProviderTests {
  @Test(
    "The provider's customer migrates, cuts over and rolls back, whatever positions functions tell",
    arguments: [false, true])
  func journey(shiftsPositions: Bool) async throws {
    try await Provider.run("provider", shiftsPositions: shiftsPositions) { provider in
      let scene = provider.scene
      try await Self.fill(provider)
      let check = try await scene.replicate.run("check", "--allow-unencrypted-target", "--create-roles")
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      #expect(check.output.contains("it belongs to role \"rdsadmin\""), "\(check.output)")
      var engine = try await provider.start("--create-roles")
      try await scene.waitUntilReady(engine)
      try await provider.source(
        "INSERT INTO app.item (body) VALUES ('streamed')", "CREATE TABLE app.late (id int PRIMARY KEY)",
        "INSERT INTO app.late VALUES (1)", "ALTER TABLE app.late ADD v text",
        "INSERT INTO app.late VALUES (2, 'v')")
      try await engine.waitUntil("the table that came later", within: .seconds(60)) {
        try await scene.targetValue("SELECT to_regclass('app.late') IS NOT NULL") == "t"
      }
      try await Self.expectVerified(scene)
      try await scene.waitUntil("a small lag", engine) { $0.ready && $0.stream.lagBytes < 1 << 20 }
      let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes", "--verify", "full")
      #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)\(engine.errors)")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      try await provider.target("INSERT INTO app.item (body) VALUES ('on the target')")
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      engine = try await provider.start("--create-roles")
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      try await provider.target("INSERT INTO app.item (body) VALUES ('after another start')")
      try await Self.expectVerified(scene)
      let rollback = try await scene.replicate.run("rollback", "--yes", "--verify", "full")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await scene.sourceValue("SELECT count(*) FROM app.item") == "103")
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
    }
  }

  @Test("A cutover as the provider's customer can be finished, and its engine killed and started again")
  func finish() async throws {
    try await Provider.run("providerend") { provider in
      let scene = provider.scene
      try await Self.fill(provider)
      let first = try await provider.start("--create-roles")
      try await scene.waitUntilReady(first)
      first.kill9()
      _ = try await first.waitForEnd(within: .seconds(10))
      let engine = try await provider.start("--create-roles")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
    }
  }

  @Test("Tokens that expire are asked for anew by each connection, over and back")
  func tokens() async throws {
    try await Provider.run("providertoken") { provider in
      try await Self.fill(provider)
      let file = try await freshDirectory() + "/token"
      let scene = try provider.loggingIn(by: "cat '\(file)'")
      /// What was good until now lets nobody in any more.
      func expire() async throws {
        let token = UUID().uuidString
        for server in [provider.servers.source, provider.servers.target] {
          try await SQLSession.run(["ALTER ROLE \(Provider.admin) PASSWORD '\(token)'"], on: server)
        }
        try Data("\(token)\n".utf8).write(to: URL(filePath: file))
      }
      try await expire()
      let engine = try await scene.replicate.start("start", "--allow-unencrypted-target", "--create-roles")
      try await scene.waitUntilReady(engine)
      try await expire()
      try await scene.source("INSERT INTO app.item (body) VALUES ('after the first token')")
      try await Self.expectVerified(scene)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      try await expire()
      try await scene.target("INSERT INTO app.item (body) VALUES ('after the second')")
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(try await scene.sourceValue("SELECT count(*) FROM app.item") == "102")
    }
  }

  @Test("What only the provider may change is left out by name, and keeps nothing else from arriving")
  func foreignParts() async throws {
    try await Provider.run("providerparts") { provider in
      let scene = provider.scene
      try await Self.fill(provider)
      // As the provider did it on the source alone.
      try await scene.source(
        "COMMENT ON EXTENSION \(provider.extensionName) IS 'changed by the provider'",
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO \(Provider.web)",
        "GRANT USAGE ON SCHEMA aws_commons TO \(Provider.web)",
        "REVOKE ALL ON FUNCTION aws_commons.create_s3_uri(text, text) FROM PUBLIC")
      try await scene.target("REVOKE ALL ON FUNCTION aws_commons.create_s3_uri(text, text) FROM PUBLIC")
      let engine = try await provider.start("--create-roles")
      try await scene.waitUntilReady(engine)
      let notes = try await scene.replicate.run("report")
      for what in [
        "must be owner of extension \(provider.extensionName)", "permission denied for schema aws_commons",
      ] {
        #expect(notes.output.contains(what), "\(what) in \(notes.output)\(engine.errors)")
      }
      #expect(!notes.output.contains("pg_read_file"), "\(notes.output)")
      // What the application lacks there is a difference; the rest is not.
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      let remedy = refused.errors.firstMatch(of: /on the target: (GRANT USAGE ON SCHEMA aws_commons [^;]*;)/)
      #expect(refused.errors.contains("1 object differs"), "\(refused.errors)")
      try await scene.target(String(try #require(remedy, "\(refused.errors)").output.1))
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
    }
  }

  @Test("Memberships in a provider's and in predefined roles come along; what may not be granted is named")
  func memberships() async throws {
    try await Provider.run("providermembers") { provider in
      let scene = provider.scene
      try await Self.fill(provider)
      let group = "app_operators"
      try await SQLSession.run(
        ["CREATE ROLE \(group) SUPERUSER", "GRANT \(group) TO \(Provider.web)"], on: scene.databases.source)
      func check(_ options: String...) async throws -> String {
        let check = try await scene.replicate.run(["check", "--allow-unencrypted-target"] + options)
        return check.output
      }
      let lacking = try await check("--create-roles")
      #expect(lacking.contains("role \"\(group)\", which the target's server lacks"), "\(lacking)")
      try await scene.target("CREATE ROLE \(group) SUPERUSER")
      let withheld = try await check("--create-roles")
      #expect(withheld.contains("Our role may not grant that."), "\(withheld)")
      #expect(withheld.contains("GRANT \"\(group)\" TO \"\(Provider.web)\";"), "\(withheld)")
      let engine = try await provider.start("--create-roles")
      try await scene.waitUntilReady(engine)
      let memberships = """
        SELECT string_agg(roleid::regrole::text || admin_option, ' ' ORDER BY roleid::regrole::text)
        FROM pg_auth_members WHERE member = '\(Provider.web)'::regrole
        """
      #expect(
        try await scene.targetValue(memberships) == "app_readerstrue pg_read_all_datafalse rds_iamfalse")
      let report = try await scene.replicate.run("report")
      #expect(report.output.contains("a membership was left out on the target"), "\(report.output)")
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 4, "\(verify.output)")
      let words = "membership of role \(Provider.web) in role \(group) is missing on the target"
      #expect(verify.output.contains(words), "\(verify.output)")
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5 && refused.errors.contains(words), "\(refused.errors)")
      let remedy = refused.errors.firstMatch(of: /on the target: (GRANT "app_operators" [^;]*;)/)
      try await scene.target(String(try #require(remedy, "\(refused.errors)").output.1))
      // One that is gone on the target alone, of a role that both ends have.
      try await provider.target("REVOKE rds_iam FROM \(Provider.web)")
      let again = try await check()
      #expect(again.contains("On the target: GRANT \"rds_iam\" TO \"\(Provider.web)\";"), "\(again)")
      try await provider.target("GRANT \"rds_iam\" TO \"\(Provider.web)\";")
      let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
      #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)")
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
    }
  }

  private static func fill(_ provider: Provider) async throws {
    try await provider.source(
      "CREATE ROLE app_readers", "CREATE ROLE \(Provider.web) LOGIN",
      "GRANT rds_iam, pg_read_all_data TO \(Provider.web)",
      "GRANT app_readers TO \(Provider.web) WITH ADMIN OPTION", "CREATE SCHEMA app",
      "CREATE TABLE app.item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)",
      "CREATE TABLE app.part (id serial PRIMARY KEY, item bigint REFERENCES app.item)",
      "GRANT USAGE ON SCHEMA app TO app_readers, \(Provider.web)",
      "GRANT SELECT ON app.item TO app_readers, \(Provider.web)",
      "INSERT INTO app.item (body) SELECT 'item ' || n FROM generate_series(1, 100) n",
      "INSERT INTO app.part (item) SELECT id FROM app.item")
  }

  private static func expectVerified(_ scene: Scene) async throws {
    let verify = try await scene.replicate.run("verify", "--json")
    #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
  }
}
