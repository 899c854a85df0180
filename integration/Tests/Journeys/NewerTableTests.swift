import Clusters
import Testing

@testable import MigrationEngine

/// Tables with what PostgreSQL 17 and 18 brought, through a whole journey: copied, changed, cut over, changed
/// on the target, and rolled back.
@Suite(.serialized, .servers(about: 30), .timeLimit(.minutes(4)), .source(atLeast: 17))
struct NewerTableTests {
  private static let changes = [
    "INSERT INTO numbered_parts (part, v) SELECT n, n FROM generate_series(1, 90) n",
    "UPDATE numbered_parts SET part = part + 5, v = -v WHERE part % 3 = 0 AND part < 90",
    "DELETE FROM numbered_parts WHERE part = 7",
    "INSERT INTO parted_booking VALUES (2, '[2020-01-01, 2020-01-02)')",
    "DELETE FROM parted_booking WHERE part = 1",
  ]

  private static let changesSince18 = [
    "INSERT INTO virtual (id, v, w) SELECT n, n, 'w' FROM generate_series(1001, 1090) n",
    "UPDATE virtual SET v = v + 1 WHERE id % 2 = 0", "UPDATE virtual SET id = id + 5000 WHERE id % 7 = 0",
    "DELETE FROM virtual WHERE twice = 18",
    "INSERT INTO named_not_null VALUES (2, 2, 2, 2)", "UPDATE named_not_null SET v = 3, w = 3",
    "INSERT INTO heir VALUES (7, 1, 1, 1, 1)",
    "INSERT INTO hotel SELECT n, '[2022-01-01, 2023-01-01)', n FROM generate_series(1, 40) n",
    "UPDATE hotel SET v = v + 1", "UPDATE stay SET v = v + 1",
    "UPDATE stay SET during = '[2020-05-01, 2020-06-01)' WHERE room > 20",
    // One that two rows of the parent cover together.
    "UPDATE stay SET during = '[2020-11-01, 2022-02-01)' WHERE id = 1 AND during @> timestamp '2021-01-15'",
    "DELETE FROM stay WHERE room = 40", "DELETE FROM hotel WHERE room = 40",
    "INSERT INTO not_enforced VALUES (2, -2, 4712)", "UPDATE not_enforced SET v = v - 1",
    "INSERT INTO only_virtual DEFAULT VALUES",
  ]

  @Test(
    "Partitions of one identity, virtual columns, keys of time, and what is not enforced go over and back")
  func journey() async throws {
    let changes = Self.changes + (try await ClusterPair.sourceMajor() >= 18 ? Self.changesSince18 : [])
    try await Scene.run("newertables") { scene in
      try await scene.source("CREATE TABLE itself (id int PRIMARY KEY)")
      try await scene.script(on: .source, EverythingDatabase.newerTables)
      let engine = try await scene.start("--replica-identity", "full", reverse: true)
      try await scene.waitUntilReady(engine)
      for sql in changes { try await scene.source(sql) }
      try await scene.waitUntilReady(engine)
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let back = Running(scene: scene, engine: engine)
      try await back.waitForStream()
      #expect(try await back.differences() == [])
      try await scene.target("INSERT INTO numbered_parts (part, v) VALUES (1, 1), (50, 50)")
      if changes.count > Self.changes.count {
        try await scene.target(
          "UPDATE virtual SET v = 77 WHERE id < 10", "UPDATE stay SET v = 78 WHERE room < 10",
          "UPDATE hotel SET open = '[2020-01-02, 2021-01-01)' WHERE room = 2 AND lower(open) = '2020-01-01'",
          "DELETE FROM not_enforced WHERE id = 1", "UPDATE named_not_null SET x = 9")
      }
      let rollback = try await scene.replicate.run("rollback", "--yes", "--verify", "full")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(try await back.differences() == [])
    }
  }
}
