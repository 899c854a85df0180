import Clusters
import Foundation
import LibPQ
import Testing

@testable import MigrationEngine

/// Writers that meet no trigger, or have it taken away: none of them may be lost silently.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct FenceGapTests {
  /// What the seal of a fence that stands says after `body`; nil when it seals.
  private func refusal(
    _ scene: Scene, after body: (_ guardian: WriteFence) async throws -> Void
  ) async throws -> String? {
    let guardian = try await scene.writeFence
    try await guardian.arm(within: .seconds(20))
    let fence = try await guardian.fence(expiringAfter: .seconds(60))
    try await body(guardian)
    do {
      #expect(try await guardian.seal(fence))
      return nil
    } catch let error as MigrationError {
      #expect(try await scene.fenceState == .fenced)
      return error.reason
    }
  }

  @Test("A trigger that was disabled after the fence and stands again keeps the source from being sealed")
  func disabled() async throws {
    try await Scene.fenced("disabled") { scene in
      try await scene.createWritableTables()
      for name in ["replicate_guard", "ALL"] {
        let reason = try await refusal(scene) { _ in
          try await scene.source(
            "ALTER TABLE keyed DISABLE TRIGGER \(name)", "UPDATE keyed SET v = 0 WHERE id = 1",
            "ALTER TABLE keyed ENABLE ALWAYS TRIGGER replicate_guard")
        }
        #expect(reason?.contains("\"public\".\"keyed\"") == true, "\(reason ?? "sealed")")
      }
      let reason = try await refusal(scene) { _ in
        try await scene.source("ALTER TABLE volatile ALTER n TYPE bigint USING n + 1")
      }
      #expect(reason?.contains("\"public\".\"volatile\"") == true, "rows were rewritten")
    }
  }

  @Test("What leaves the rows alone does not keep the source from being sealed")
  func harmless() async throws {
    try await Scene.fenced("harmless") { scene in
      try await scene.createWritableTables()
      let reason = try await refusal(scene) { _ in
        try await scene.source(
          "VACUUM (FREEZE, ANALYZE) keyed", "CREATE INDEX CONCURRENTLY ON keyed (v)",
          "CREATE TABLE gone (id int)", "DROP TABLE gone", "SELECT lo_from_bytea(0, 'written')")
      }
      #expect(reason == nil)
    }
  }

  @Test("Rows that move to another file as they are do not keep the source from being sealed")
  func otherFile() async throws {
    try await Scene.fenced("otherfile") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let truncating = try await scene.session("BEGIN", "TRUNCATE keyed, child")
      let fence = try await guardian.fence(expiringAfter: .seconds(60))
      try await truncating.execute("COMMIT")
      await truncating.close()
      try await scene.source(
        "VACUUM FULL parted_a", "CLUSTER keyed USING keyed_pkey", "ALTER TABLE volatile ADD CHECK (n > 0)")
      _ = try await scene.writers.awaitHolding(until: .now + .seconds(10))
      #expect(try await guardian.seal(fence))
    }
  }

  @Test("Definitions that were being changed when the fence went up keep the source from being sealed")
  func definitionInFlight() async throws {
    try await Scene.fenced("inflightddl") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      for ddl in [
        "ALTER TABLE volatile ALTER n TYPE int USING n + 1", "ALTER TABLE volatile SET LOGGED",
        "ALTER TABLE volatile ADD d timestamptz DEFAULT clock_timestamp()",
      ] {
        let session = try await scene.session("BEGIN", ddl)
        let fence = try await guardian.fence(expiringAfter: .seconds(60))
        try await session.execute("COMMIT")
        await session.close()
        let error = await #expect(throws: MigrationError.self) { _ = try await guardian.seal(fence) }
        #expect(error?.reason.contains("\"public\".\"volatile\"") == true, "\(ddl): \(error as Any)")
        try await guardian.unfence()
      }
    }
  }

  @Test("Who writes or removes a large object is waited for, named, and keeps the source from being sealed")
  func largeObjects() async throws {
    try await Scene.fenced("lofence") { scene in
      try await scene.createWritableTables()
      try await scene.source("SELECT lo_from_bytea(n, 'before') FROM generate_series(11, 14) n")
      let reader = try await scene.session("BEGIN", "SELECT lo_get(11)")
      let writers = try await scene.writers
      #expect(try await writers.holding() == [], "who reads one writes nothing")
      for sql in [
        "SELECT lo_put(12, 0, 'after')", "SELECT lo_unlink(13)", "SELECT lo_from_bytea(0, 'new')",
        "SAVEPOINT s \\; SELECT lo_put(14, 0, 'after') \\; RELEASE s",
      ] {
        let writer = try await scene.session("BEGIN", sql)
        let pid = try #require(try await writer.value("SELECT pg_backend_pid()"))
        let error = await #expect(throws: MigrationError.self, "\(sql)") {
          try await writers.awaitHolding(until: .now + .milliseconds(50))
        }
        #expect(error?.reason.contains("pid \(pid)") == true, "\(sql): \(error?.reason ?? "")")
        let reason = try await refusal(scene) { _ in }
        #expect(reason?.contains("pid \(pid)") == true, "\(sql): \(reason ?? "sealed")")
        #expect(reason?.contains("large objects") == true)
        try await writer.execute("ROLLBACK")
        await writer.close()
      }
      #expect(try await refusal(scene) { _ in } == nil)
      await reader.close()
    }
  }

  @Test("A subscription that writes into the source keeps it from being sealed, and is named")
  func subscription() async throws {
    try await Scene.fenced("subscribed") { scene in
      try await scene.createWritableTables()
      try await scene.source(
        "CREATE SUBSCRIPTION \"in %n\" CONNECTION 'host=/nonexistent' PUBLICATION p WITH (connect = false)")
      #expect(try await Replicator.all(on: scene.connection(.source)).filter(\.isEnabled) == [])
      let reason = try await refusal(scene) { _ in
        try await scene.source("ALTER SUBSCRIPTION \"in %n\" ENABLE")
      }
      #expect(reason?.contains("\"in %n\"") == true, "\(reason ?? "sealed")")
      try await scene.source(
        "ALTER SUBSCRIPTION \"in %n\" DISABLE", "ALTER SUBSCRIPTION \"in %n\" SET (slot_name = NONE)")
      #expect(try await refusal(scene) { _ in } == nil)
      try await scene.source("DROP SUBSCRIPTION \"in %n\"")
    }
  }

  @Test("A fence waits for no table's lock, and holds none")
  func lockless() async throws {
    try await Scene.fenced("lockless") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let locker = try await scene.session("BEGIN", "LOCK TABLE keyed, parted IN ACCESS EXCLUSIVE MODE")
      let began = ContinuousClock.now
      _ = try await guardian.fence(expiringAfter: .seconds(60))
      try await guardian.unfence()
      #expect(ContinuousClock.now - began < .seconds(2))
      try await locker.execute("COMMIT")
      await locker.close()
    }
  }

  @Test("What was written to large objects between the last look and the seal is carried over after it")
  func betweenFinaliseAndSeal() async throws {
    try await Scene.run("lobetween") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)",
        "SELECT lo_from_bytea(n, 'before') FROM generate_series(11, 13) n")
      let held = try await HoldingPoint("before seal")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let reader = try await SQLSession(scene.databases.source)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: cutover, within: .seconds(30))
      try await scene.source(
        "SELECT lo_put(11, 0, 'later!')", "SELECT lo_unlink(12)", "SELECT lo_from_bytea(14, 'new')")
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let expected = try await scene.largeObjects(.source)
      #expect(expected.count == 3)
      #expect(try await scene.largeObjects(.target) == expected)
      #expect(cutover.output.contains("3 large objects again"), "\(cutover.output)")
      // Sessions that were there before the read-only default go on reading, with row locks and temporary
      // tables.
      for sql in ["SELECT * FROM t FOR UPDATE", "CREATE TEMP TABLE own AS TABLE t", "SELECT lo_get(11)"] {
        try await reader.execute(sql)
      }
      await reader.close()
      #expect(try await scene.refusal(of: "TABLE t", on: scene.databases.source) == nil)
      #expect(
        try await scene.refusal(of: "SELECT * FROM t FOR UPDATE", on: scene.databases.source) == "25006"
      )
    }
  }
}
