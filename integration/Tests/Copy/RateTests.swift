import Clusters
import Testing

@testable import MigrationEngine

@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct RateTests {
  @Test("--max-rate holds the copy back, all workers together, and nothing is lost by it")
  func rate() async throws {
    try await Scene.run("rate") { scene in
      for table in 1...4 {
        try await scene.source(
          "CREATE TABLE t\(table) (id int PRIMARY KEY, v text)",
          "INSERT INTO t\(table) SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) n")
      }
      let engine = try await scene.start("--jobs", "4", "--max-rate", "5MB")
      try await scene.waitUntilReady(engine)
      let copy = try await scene.status().copy
      #expect(copy.rowsDone == 20_000)
      // 20 MB; the last buffers are not waited for.
      #expect(copy.seconds > 2.5, "\(copy.bytesDone) bytes in \(copy.seconds) s")
    }
  }
}
