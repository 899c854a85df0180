import Clusters
import Testing

@testable import MigrationEngine

/// A table that is too large for one worker.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(3)))
struct SplitTests {
  private static let rows = 130_000

  @Test("A table that travels in parts arrives whole, under updates and over a kill in the middle of them")
  func parts() async throws {
    try await Scene.run("split") { scene in
      try await scene.source(
        "CREATE TABLE large (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0)",
        "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (1)",
        "INSERT INTO large SELECT n, repeat('x', 1000) FROM generate_series(1, \(Self.rows)) n")
      let source = scene.databases.source
      // Each moves rows to other blocks, from one part's range into another's.
      let writer = Task {
        let session = try await SQLSession(source)
        var round = 0
        while !Task.isCancelled {
          round += 1
          try await session.execute("UPDATE large SET n = n + 1 WHERE id % 1000 = \(round % 1000)")
        }
        await session.close()
      }
      var engine = try await scene.start("--jobs", "3", "--max-rate", "40MB")
      try await scene.waitUntil("the middle of the copy", engine) {
        $0.phase == .copy && $0.copy.bytesDone > 80 << 20
      }
      engine.kill9()
      #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
      engine = try await scene.start("--jobs", "3")
      try await scene.waitUntilReady(engine)
      let copy = try await scene.status().copy
      #expect(copy.tablesDone == 2)
      #expect(copy.rowsDone == Int64(Self.rows) + 1)
      writer.cancel()
      try await writer.value
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let differences = try await DatabaseComparison().differences(
        source: source, target: scene.databases.target)
      #expect(differences == [])
      #expect(try await scene.targetValue("SELECT sum(n) > 0 FROM large") == "t")
    }
  }
}
