import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// pg_cron in the database that moves, where it belongs to the provider and has policies on its tables.
@Suite(
  .serialized, .servers(about: 60), .timeLimit(.minutes(4)), .ownServers, .servers(atLeast: 15),
  .enabled("needs pg_cron, which integration/prepare installs where Debian has it") {
    try await PostgresPrograms.hasExtension("pg_cron")
  })
struct ScheduledJobTests {
  @Test("Jobs arrive inactive, and run on the end that writes go to, after a cutover and after a rollback")
  func handedOver() async throws {
    try await Self.run("jobs") { provider in
      let scene = provider.scene
      func check() async throws -> Finished {
        try await scene.replicate.run("check", "--allow-unencrypted-target")
      }
      let blocked = try await check()
      #expect(blocked.exitCode == 3, "\(blocked.output)")
      let advice = blocked.output.matches(
        of: /On the (source|target), as the extension's owner: ((?:(?:GRANT|ALTER) [^;]*; )+)Or leave/)
      #expect(advice.count > 4, "\(blocked.output)")
      for one in advice { try await scene.run([String(one.2)], on: one.1 == "source" ? .source : .target) }
      let passed = try await check()
      #expect(passed.exitCode == 0, "\(passed.output)")
      let engine = try await provider.start()
      try await scene.waitUntilReady(engine)
      #expect(try await Self.jobs(scene, .source) == ["beat true", "idle false"])
      #expect(try await Self.jobs(scene, .target) == ["beat false", "idle false"])
      #expect(
        try await scene.targetValue("SELECT bool_and(database = current_database()) FROM cron.job") == "t")
      try await Self.expectVerified(scene)
      // Both are seen by the cutover: one that stopped, and one that is new.
      try await scene.source("UPDATE cron.job SET active = (jobname = 'idle')")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await Self.jobs(scene, .target) == ["beat false", "idle true"])
      #expect(try await Self.jobs(scene, .source) == ["beat false", "idle false"])
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      try await Self.expectVerified(scene)
      try await scene.target("UPDATE cron.job SET active = true")
      let rollback = try await scene.replicate.run("rollback", "--yes", "--verify", "full")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await Self.jobs(scene, .source) == ["beat true", "idle true"])
      #expect(try await Self.jobs(scene, .target) == ["beat false", "idle false"])
    }
  }

  @Test("Jobs that stay behind, with their tables, keep no cutover from its end")
  func leftBehind() async throws {
    try await Self.run("jobsleft") { provider in
      let scene = provider.scene
      let engine = try await provider.start(
        "--exclude-table", "cron.job", "--exclude-table", "cron.job_run_details", "--no-reverse")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await Self.jobs(scene, .source) == ["beat true", "idle false"])
      #expect(try await Self.jobs(scene, .target) == [])
    }
  }

  @Test("Where there are no jobs, nothing of pg_cron's is written, and no right to do so is asked for")
  func none() async throws {
    try await Self.run("jobsnone", hasJobs: false) { provider in
      let scene = provider.scene
      for end in [Scene.End.source, .target] {
        let sequences = "GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA cron TO \(Provider.admin)"
        try await scene.run(["ALTER ROLE \(Provider.admin) BYPASSRLS", sequences], on: end)
      }
      let engine = try await provider.start()
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(!engine.errors.contains("jobs of pg_cron"), "\(engine.errors)")
    }
  }

  private static func jobs(_ scene: Scene, _ end: Scene.End) async throws -> [String] {
    let session = try await SQLSession(scene.server(end))
    let rows = try await session.rows("SELECT jobname || ' ' || active FROM cron.job ORDER BY 1")
    await session.close()
    return rows.compactMap { $0.first ?? nil }
  }

  private static func expectVerified(_ scene: Scene) async throws {
    let verify = try await scene.replicate.run("verify", "--json")
    #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
  }

  /// With two jobs of the customer's, which nobody else sees; one is not active.
  private static func run(
    _ name: String, hasJobs: Bool = true, isolation: isolated (any Actor)? = #isolation,
    _ body: (Provider) async throws -> Void
  ) async throws {
    func settings(_ database: String) -> [String: String] {
      ["cron.database_name": database, "cron.use_background_workers": "on"]
    }
    try await Provider.run(name, libraries: ["pg_cron"], settings: settings) { provider in
      try await provider.scene.source("GRANT USAGE ON SCHEMA cron TO \(Provider.admin)")
      try await provider.scene.target("GRANT USAGE ON SCHEMA cron TO \(Provider.admin)")
      try await provider.source("CREATE TABLE public.beat (id serial PRIMARY KEY)")
      guard hasJobs else { return try await body(provider) }
      try await provider.source(
        "SELECT cron.schedule('beat', '0 4 1 1 *', 'INSERT INTO public.beat DEFAULT VALUES')",
        "SELECT cron.schedule('idle', '0 5 1 1 *', 'VACUUM public.beat')")
      try await provider.scene.source("UPDATE cron.job SET active = false WHERE jobname = 'idle'")
      try await body(provider)
    }
  }
}
