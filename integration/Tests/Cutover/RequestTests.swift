import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// One cutover at a time: who asks again for what is under way follows it to its end.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(3)))
struct RequestTests {
  private static let tables = [
    "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)"
  ]
  private static let write = "INSERT INTO t (v) VALUES (1)"

  @Test("A cutover that is asked for again is followed by all who ask; a rehearsal is refused meanwhile")
  func cutoverAgain() async throws {
    try await Scene.run("again") { scene in
      for sql in Self.tables { try await scene.source(sql) }
      let held = try await HoldingPoint("after seal")
      let engine = try await scene.start(reverse: true, meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      // At once: only one of them can be the first.
      async let one = scene.replicate.start("cutover", "--yes")
      async let other = scene.replicate.start("cutover", "--yes")
      let (first, second) = try await (one, other)
      try await held.wait(for: engine, within: .seconds(30))
      first.kill9()
      let third = try await scene.replicate.start("cutover", "--yes")
      let attached = "following the cutover that is under way"
      try await third.waitForOutput(attached, within: .seconds(10))
      let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
      #expect(rehearsal.exitCode == 64, "\(rehearsal.output)\(rehearsal.errors)")
      #expect(rehearsal.errors.contains("a cutover is under way"), "\(rehearsal.errors)")
      try held.release()
      #expect(try await third.waitForEnd(within: .seconds(30)) == 0, "\(third.errors)")
      #expect(try await second.waitForEnd(within: .seconds(30)) == 0, "\(second.errors)")
      #expect(third.output.contains("cutover complete; writes paused for"), "\(third.output)")
      let back = Running(scene: scene, engine: engine)
      try await back.waitForStream()
      #expect(try await back.report().cutovers.map(\.state) == ["complete"])
      #expect(try await scene.status().cutover?.result == .complete)
    }
  }

  @Test("An engine that is asked to stop in a cutover takes the fence down, and who follows it hears why")
  func stopped() async throws {
    try await Scene.run("stopped") { scene in
      for sql in Self.tables { try await scene.source(sql) }
      let held = try await HoldingPoint("after mark")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine, within: .seconds(30))
      try await RollbackTests.stop(engine)
      #expect(try await cutover.waitForEnd(within: .seconds(10)) == 5, "\(cutover.errors)")
      #expect(cutover.errors.contains("the engine was asked to stop"), "\(cutover.errors)")
      #expect(try await scene.refusal(of: Self.write, on: scene.databases.source) == nil)
      let status = try await scene.status()
      #expect(status.phase == .streaming && status.cutover?.result == .aborted)
    }
  }

  @Test(
    "A rollback whose engine dies after the seal is completed by the next one, also when asked for again",
    arguments: ["after seal", "after open"])
  func rollbackAgain(_ step: String) async throws {
    try await Running.back("again_back", prepare: Self.tables) { back in
      let scene = back.scene
      try await RollbackTests.stop(back.engine)
      let held = try await HoldingPoint(step)
      let next = back.with(try await scene.start(reverse: true, meeting: held.failpoint))
      try await next.waitForStream()
      let first = try await scene.replicate.start("rollback", "--yes")
      try await held.wait(for: next.engine, within: .seconds(30))
      first.kill9()
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 64, "\(cutover.output)\(cutover.errors)")
      #expect(cutover.errors.contains("a rollback is under way"), "\(cutover.errors)")
      let second = try await scene.replicate.start("rollback", "--yes")
      try await waitUntil("the second request") {
        try await scene.targetValue("SELECT count(*) FROM replicate.cutover") == "3"
          || second.errors.contains("following the rollback that is under way")
      }
      next.engine.kill9()
      _ = try await next.engine.waitForEnd(within: .seconds(10))
      // As a finish leaves it that was asked for a moment before the rollback.
      if step == "after seal" {
        try await scene.target("UPDATE replicate.migration SET finish_requested = true")
      }
      let last = try await scene.start(reverse: true)
      #expect(try await last.waitForEnd(within: .seconds(30)) == 0, "\(last.errors)")
      #expect(try await second.waitForEnd(within: .seconds(40)) == 0, "\(second.errors)")
      #expect(try await back.isWritable(.source, Self.write))
      #expect(try await !back.isWritable(.target, Self.write))
      #expect(try await back.report().cutovers.map(\.state) == ["complete", "complete"])
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(try await !back.isWritable(.target, Self.write))
    }
  }
}
