import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What a migration leaves behind is not compared, and what no fence stops aborts nothing.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct VerifyLeftBehindTests {
  @Test("Large objects and tables that stay behind are named, not compared, and never touched")
  func leftBehind() async throws {
    try await Scene.run("verifyleft") { scene in
      try await scene.source(
        "SELECT lo_from_bytea(4711, 'stays')", "CREATE TABLE kept (id int PRIMARY KEY)",
        "INSERT INTO kept VALUES (1)", "CREATE TABLE away (id int PRIMARY KEY)",
        "INSERT INTO away VALUES (1)")
      var engine = try await scene.start(
        "--without-large-objects", "--exclude-table", "public.away", reverse: true)
      try await scene.waitUntilReady(engine)
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
      #expect(verify.output.contains("--without-large-objects"), "\(verify.output)")
      #expect(verify.output.contains("--exclude-table"), "\(verify.output)")
      #expect(!verify.output.contains("large object 4711"), "\(verify.output)")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      // Reverse replication has none to bring, also when the next engine is not given the option.
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      engine = try await scene.start(reverse: true)
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      try await scene.expectVerified()
      let rollback = try await scene.replicate.run("rollback", "--yes", "--verify", "full")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await scene.sourceValue("SELECT lo_get(4711)::text") == "\\x7374617973")
    }
  }

  @Test("A table that is named and cannot be compared is listed, and the ends are not called equal")
  func unloggedAlone() async throws {
    try await Scene.run("verifyunlogged") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)",
        "INSERT INTO fast VALUES (1)",
        "CREATE TABLE empty (id int PRIMARY KEY) PARTITION BY LIST (id)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let both = try await scene.replicate.run("verify", "--tables", "public.fast,public.t", "--json")
      #expect(both.exitCode == 0, "\(both.output)\(both.errors)")
      let report = try JSONDecoder().decode(VerificationReport.self, from: Data(both.output.utf8))
      let verdicts = report.tables.map { "\($0.name.name) \($0.verdict.rawValue) \($0.sourceRows ?? -1)" }
      #expect(verdicts == ["fast not_compared 1", "t equal 0"])
      for name in ["public.fast", "public.empty"] {
        let alone = try await scene.replicate.run("verify", "--tables", name)
        #expect(alone.exitCode == 1, "\(alone.output)\(alone.errors)")
        #expect(alone.output.contains("nothing was compared"), "\(alone.output)")
        #expect(!alone.output.contains("are equal"), "\(alone.output)")
      }
    }
  }

  @Test("A large object that is written after the fence aborts nothing, and one that differs does")
  func largeObjects() async throws {
    try await Scene.run("verifylarge") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "SELECT lo_from_bytea(1, 'a'), lo_from_bytea(2, 'b')")
      let held = try await HoldingPoint("before verify")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let rehearsal = try await scene.replicate.start(
        "cutover", "--yes", "--dry-run", "--verify", "full")
      try await held.wait(for: engine, within: .seconds(30))
      // Its content, and one more: what has been brought over after the fence is old by now.
      try await scene.source("SELECT lo_put(1, 0, 'later')", "SELECT lo_from_bytea(3, 'new')")
      try held.release()
      let code = try await rehearsal.waitForEnd(within: .seconds(60))
      #expect(code == 0, "\(rehearsal.output)\(rehearsal.errors)")
      let proof = try #require(try await scene.status().cutover?.verification)
      #expect(proof.result == .equal && proof.extent == .full, "\(proof)")

      try await scene.plant("SELECT lo_put(2, 0, 'planted')")
      try await scene.expectAborted(
        "--verify", "full", naming: ["large object 2 has different content"])
    }
  }
}
