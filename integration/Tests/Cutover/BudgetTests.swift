import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// `--max-pause` is kept: a cutover that would take longer does not begin, and one that does take longer is
/// undone.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(4)))
struct BudgetTests {
  @Test("With a backlog no cutover begins that would take longer than it may, however soon it is asked for")
  func backlog() async throws {
    try await Scene.run("budget") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int, pad text)",
        "INSERT INTO t SELECT i, 0, repeat('x', 150) FROM generate_series(1, 150000) i")
      let first = try await scene.start()
      try await scene.waitUntilReady(first)
      first.terminate()
      #expect(try await first.waitForEnd(within: .seconds(30)) == 0)
      for _ in 0..<3 { try await scene.source("UPDATE t SET v = v + 1") }
      let engine = try await scene.start()
      var refusals = 0
      while true {
        let rehearsal = try await scene.replicate.run(
          "cutover", "--dry-run", "--yes", "--max-pause", "1s", "--verify", "none")
        let pause = try await scene.status().cutover?.writePauseSeconds
        if let pause { #expect(pause < 1.5, "\(rehearsal.output)\(rehearsal.errors)") }
        if rehearsal.exitCode == 0 { break }
        #expect(engine.isRunning, "\(engine.errors)")
        guard engine.isRunning else { return }
        refusals += 1
      }
      #expect(refusals > 0, "there was no backlog to be seen")
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("A drain that takes longer than the pause may is undone when the pause is over")
  func undone() async throws {
    try await Scene.run("undoneinbudget") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let held = try await HoldingPoint("before fence")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes", "--max-pause", "1s")
      try await held.wait(for: engine)
      let locker = try await SQLSession(scene.databases.target)
      try await locker.execute("BEGIN")
      try await locker.execute("LOCK TABLE t IN EXCLUSIVE MODE")
      try await scene.source("INSERT INTO t VALUES (1)")
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(20)) == 5, "\(cutover.errors)")
      #expect(cutover.errors.contains("--max-pause"), "\(cutover.errors)")
      let pause = try #require(try await scene.status().cutover?.writePauseSeconds)
      #expect(pause > 0.9 && pause < 2, "\(pause)")
      #expect(
        try await scene.refusal(of: "INSERT INTO t VALUES (2)", on: scene.databases.source) == nil)
      try await locker.execute("ROLLBACK")
      await locker.close()
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }
}
