import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// The target's disk or key is lost: the source alone must do.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(3)), .ownServers)
struct LostTargetTests {
  /// Kills the target's server, and starts it again when `body` has ended.
  private func withDeadTarget(_ body: () async throws -> Void) async throws {
    let cluster = try #require(try await ClusterPair.shared.targetCluster)
    try await cluster.kill9()
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    try await cluster.start()
    try result.get()
  }

  private func abort(_ scene: Scene, _ options: String...) async throws -> Finished {
    try await scene.replicate.run(["abort", "--without-target"] + options)
  }

  @Test("After the cutover the sealed source is opened as it was, and it is said what is lost")
  func sealed() async throws {
    try await Running.back(
      "losttarget",
      prepare: [
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)",
        "CREATE TABLE nokey (v int)", "CREATE SEQUENCE drawn",
        "CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER always BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION passes()",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER always", "INSERT INTO t (v) VALUES (1)",
      ], options: ["--replica-identity", "full"]
    ) { back in
      let scene = back.scene
      try await scene.target("INSERT INTO t (v) VALUES (2)")
      try await back.waitForSource("SELECT count(*) FROM t")
      let busy = try await abort(scene, "--yes")
      #expect(busy.exitCode == 64 && busy.errors.contains("the target answers"), "\(busy.errors)")
      back.engine.kill9()
      _ = try await back.engine.waitForEnd(within: .seconds(10))
      try await scene.target("INSERT INTO t (v) VALUES (3)")
      try await withDeadTarget {
        let asked = try await abort(scene)
        #expect(asked.exitCode == 64 && asked.errors.contains("Give --yes"), "\(asked.errors)")
        #expect(
          try await scene.refusal(of: "UPDATE t SET v = 0", on: scene.databases.source) == "25006")
        let abort = try await abort(scene, "--yes")
        #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
        #expect(
          abort.output.contains("The last transaction that came back was committed on the target at 20"),
          "\(abort.output)")
        #expect(abort.errors.contains("sequences=public.drawn"), "\(abort.errors)")
        #expect(try await scene.tracesOnSource() == ["trigger always on t"])
        let definitions = """
          SELECT attidentity::text || (SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'always')
          FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'id'
          """
        #expect(try await scene.sourceValue(definitions) == "aA")
        try await scene.source("INSERT INTO t (v) VALUES (4)", "DELETE FROM nokey")
        #expect(
          try await scene.sourceValue("SELECT string_agg(v::text, ',' ORDER BY v) FROM t") == "1,2,4")
        let again = try await self.abort(scene, "--yes")
        #expect(again.exitCode == 64 && again.errors.contains("part of no migration"), "\(again.errors)")
      }
    }
  }

  @Test("Before the cutover the source is cleaned, and was never closed")
  func unsealed() async throws {
    try await Scene.run("losttargetearly") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE nokey (v int)")
      let before = try await scene.tracesOnSource()
      let engine = try await scene.start("--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
      #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)")
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      try await withDeadTarget {
        let abort = try await abort(scene, "--yes")
        #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
        #expect(abort.output.contains("it has everything, and takes writes as before"), "\(abort.output)")
        #expect(try await scene.tracesOnSource() == before)
      }
    }
  }
}
