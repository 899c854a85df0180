import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// `--max-pause` is kept: a cutover that would take longer does not begin, and one that does take longer is
/// undone.
@Suite(.serialized, .servers(about: 52), .timeLimit(.minutes(4)))
struct BudgetTests {
  @Test("With a backlog no cutover begins that would take longer than it may, however soon it is asked for")
  func backlog() async throws {
    try await Journey.run("budget") { journey in
      try await journey.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int, pad text)",
        "INSERT INTO t SELECT i, 0, repeat('x', 150) FROM generate_series(1, 150000) i")
      let first = try await journey.start()
      try await journey.waitUntilReady(first)
      first.terminate()
      #expect(try await first.waitForEnd(within: .seconds(30)) == 0)
      for _ in 0..<3 { try await journey.source("UPDATE t SET v = v + 1") }
      let engine = try await journey.start()
      var refusals = 0
      while true {
        let rehearsal = try await journey.replicate.run(
          "cutover", "--dry-run", "--yes", "--max-pause", "1s", "--verify", "none")
        let pause = try await journey.status().cutover?.writePauseSeconds
        if let pause { #expect(pause < 1.5, "\(rehearsal.output)\(rehearsal.errors)") }
        if rehearsal.exitCode == 0 { break }
        #expect(engine.isRunning, "\(engine.errors)")
        guard engine.isRunning else { return }
        refusals += 1
      }
      #expect(refusals > 0, "there was no backlog to be seen")
      try await journey.expectEqualEnds(engine)
    }
  }

  @Test("A drain that takes longer than the pause may is undone when the pause is over")
  func undone() async throws {
    try await Journey.run("undoneinbudget") { journey in
      try await journey.source("CREATE TABLE t (id int PRIMARY KEY)")
      let held = try await HoldingPoint("before fence")
      let engine = try await journey.start(meeting: held.failpoint)
      try await journey.waitUntilReady(engine)
      let cutover = try await journey.replicate.start("cutover", "--yes", "--max-pause", "1s")
      try await held.wait(for: engine)
      let locker = try await SQLSession(journey.databases.target)
      try await locker.execute("BEGIN")
      try await locker.execute("LOCK TABLE t IN EXCLUSIVE MODE")
      try await journey.source("INSERT INTO t VALUES (1)")
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(20)) == 5, "\(cutover.errors)")
      #expect(cutover.errors.contains("--max-pause"), "\(cutover.errors)")
      let pause = try #require(try await journey.status().cutover?.writePauseSeconds)
      #expect(pause > 0.9 && pause < 2, "\(pause)")
      #expect(
        try await journey.refusal(of: "INSERT INTO t VALUES (2)", on: journey.databases.source) == nil)
      try await locker.execute("ROLLBACK")
      await locker.close()
      try await journey.waitUntilReady(engine)
      try await journey.expectEqualEnds(engine)
    }
  }
}
