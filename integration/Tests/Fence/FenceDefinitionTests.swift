import Clusters
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// Transactions that change definitions and have not ended when the source is to be sealed: the catalogs
/// show nothing of them yet, and what they have written would be lost after the seal.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct FenceDefinitionTests {
  /// What the seal of a fence that stands says while `session` is open; nil when it seals.
  private func refusal(_ scene: Scene, _ guardian: WriteFence, _ fence: WriteFence.Fence) async throws
    -> String?
  {
    do {
      _ = try await guardian.seal(fence)
      return nil
    } catch let error as MigrationError {
      #expect(try await scene.fenceState == .fenced)
      return error.reason
    }
  }

  @Test("A transaction that has changed definitions, and not ended, keeps the source from being sealed")
  func uncommitted() async throws {
    try await Scene.fenced("uncommitted") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let fence = try await guardian.fence(expiringAfter: .seconds(100))
      _ = try await scene.writers.awaitHolding(until: .now + .seconds(10))
      for statements in [
        ["ALTER TABLE keyed DISABLE TRIGGER replicate_guard", "INSERT INTO keyed VALUES (200, 0)"],
        ["CREATE TABLE fresh AS SELECT 1 AS id"], ["SELECT 1 AS id INTO fresh"],
        ["CREATE SCHEMA other", "CREATE TABLE other.fresh AS SELECT 1 AS id"],
        [
          "SAVEPOINT s", "CREATE UNLOGGED TABLE fresh (id int)", "RELEASE s",
          "INSERT INTO fresh VALUES (1)",
        ],
        ["ALTER TABLE volatile ALTER n TYPE bigint USING n + 1"], ["DROP TABLE child"],
        ["CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN (2)", "INSERT INTO parted_b VALUES (2)"],
      ] {
        let session = try await scene.session("SET application_name = 'deploy'", "BEGIN")
        for sql in statements { try await session.execute(sql) }
        let pid = try #require(try await session.value("SELECT pg_backend_pid()"))
        let reason = try await refusal(scene, guardian, fence) ?? "sealed"
        for part in ["pid \(pid)", "user postgres", "'deploy'", "s old", "Lock on "] {
          #expect(reason.contains(part), "\(statements): \(part) in: \(reason)")
        }
        try await session.execute("ROLLBACK")
        await session.close()
      }
      let prepared = try await scene.session(
        "BEGIN", "CREATE TABLE fresh AS SELECT 1 AS id", "PREPARE TRANSACTION 'deploy'")
      let reason = try await refusal(scene, guardian, fence)
      #expect(reason?.contains("prepared transaction 'deploy'") == true, "\(reason ?? "sealed")")
      try await prepared.execute("ROLLBACK PREPARED 'deploy'")
      await prepared.close()
      #expect(try await refusal(scene, guardian, fence) == nil)
    }
  }

  @Test("A table that an open transaction has made is waited for, and its maker named")
  func creators() async throws {
    try await Scene.fenced("creators") { scene in
      try await scene.createWritableTables()
      let session = try await scene.session("BEGIN", "CREATE TABLE fresh AS SELECT 1 AS id")
      let pid = try #require(try await session.value("SELECT pg_backend_pid()"))
      let error = await #expect(throws: MigrationError.self) {
        try await scene.writers.awaitHolding(until: .now + .milliseconds(50))
      }
      #expect(error?.reason.contains("pid \(pid)") == true, "\(error?.reason ?? "nobody was waited for")")
      await session.close()
    }
  }

  @Test("Who reads, maintains, or makes what is no table of the user's does not keep it from being sealed")
  func harmless() async throws {
    try await Scene.fenced("harmlessopen") { scene in
      try await scene.createWritableTables()
      try await scene.source("CREATE UNIQUE INDEX ON summary (count)")
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let fence = try await guardian.fence(expiringAfter: .seconds(60))
      let elsewhere = try await SQLSession(ClusterPair.shared.source)
      try await elsewhere.execute("BEGIN")
      try await elsewhere.execute("CREATE TABLE of_another_database AS SELECT 1 AS id")
      var sessions = [elsewhere]
      for statements in [
        ["SELECT * FROM keyed FOR UPDATE"], ["REFRESH MATERIALIZED VIEW summary"],
        ["LOCK TABLE ONLY volatile IN SHARE UPDATE EXCLUSIVE MODE"],
        [
          "CREATE TEMP TABLE own AS SELECT * FROM parted", "DROP TABLE own",
          "CREATE TEMP TABLE own (id int)",
        ],
        ["CREATE INDEX ON child (extra)"], ["ANALYZE parted_a"],
      ] {
        let session = try await SQLSession(scene.databases.source)
        // The first one makes the session's schema, which looks like any schema of the user's.
        try await session.execute("CREATE TEMP TABLE first (id int)")
        try await session.execute("BEGIN")
        for sql in statements { try await session.execute(sql) }
        sessions.append(session)
      }
      #expect(try await refusal(scene, guardian, fence) == nil)
      for session in sessions { await session.close() }
    }
  }

  @Test("A short change of definitions that does not last is waited for at the seal")
  func short() async throws {
    try await Scene.fenced("shortddl") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let fence = try await guardian.fence(expiringAfter: .seconds(60))
      let session = try await scene.session("BEGIN", "LOCK TABLE keyed IN ACCESS EXCLUSIVE MODE")
      let sealing = Task { try await guardian.seal(fence) }
      try await waitUntil("the seal's wait", within: .seconds(10), every: .milliseconds(5)) {
        let rows = try await scene.onlooker.query(
          """
          SELECT FROM pg_catalog.pg_stat_activity WHERE query LIKE 'SELECT DISTINCT ON (l.virtual%'
            AND datname = current_database() AND pid <> pg_backend_pid()
          """, doing: "looking for the seal's wait")
        return rows.affected == 1
      }
      try await session.execute("COMMIT")
      #expect(try await sealing.value)
      await session.close()
    }
  }
}
