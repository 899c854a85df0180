import Clusters
import LibPQ
import Testing

@testable import MigrationEngine

/// Which transactions the fence waits for, and how those are named that do not end.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct WritersTests {
  @Test("A transaction that wrote before the fence is waited for; one that only reads or locks rows is not")
  func exactlyWriters() async throws {
    try await Scene.fenced("writers") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let reader = try await scene.session("BEGIN", "SELECT * FROM keyed FOR UPDATE")
      let writer = try await scene.session("BEGIN", "INSERT INTO keyed VALUES (100, 0)")
      _ = try await guardian.fence(expiringAfter: .seconds(60))

      let waiting = UnderWay {
        try await scene.writers.awaitHolding(until: .now + .seconds(30)).count
      }
      try await scene.waitUntilWaiting()
      // The fence it has seen is the old one, on the tables it holds.
      #expect(await !waiting.hasEnded)
      try await writer.execute("COMMIT")
      #expect(try await waiting.value == 1)
      #expect(try await scene.sourceValue("SELECT count(*) FROM keyed WHERE id = 100") == "1")
      try await reader.execute("COMMIT")
      await reader.close()
      await writer.close()
    }
  }

  @Test("A writer that does not end is named with pid, user, application, state and age, and how to end it")
  func named() async throws {
    try await Scene.fenced("named") { scene in
      try await scene.createWritableTables()
      let writer = try await scene.session(
        "SET application_name = 'billing'", "BEGIN", "UPDATE keyed SET v = 1 WHERE id = 1")
      let pid = try #require(try await writer.value("SELECT pg_backend_pid()"))
      let error = await #expect(throws: MigrationError.self) {
        try await scene.writers.awaitHolding(until: .now + .milliseconds(200))
      }
      let words = try #require(error?.reason)
      for part in ["pid \(pid)", "user postgres", "'billing'", "idle in transaction", "s old"] {
        #expect(words.contains(part), "\(part) in: \(words)")
      }
      #expect(error?.remedy?.contains("pg_terminate_backend(\(pid))") == true)
      await writer.close()
    }
  }

  @Test(
    "A prepared transaction is waited for and named by its gid, also one prepared during the wait",
    .ownServers)
  func prepared() async throws {
    try await Scene.fenced("prepared") { scene in
      try await scene.createWritableTables()
      let writer = try await scene.session("BEGIN", "UPDATE keyed SET v = 1 WHERE id = 1")
      let waiting = UnderWay {
        try await scene.writers.awaitHolding(until: .now + .seconds(30)).count
      }
      try await scene.waitUntilWaiting()
      try await writer.execute("PREPARE TRANSACTION 'two''phase'")
      let error = await #expect(throws: MigrationError.self) {
        try await Writers(scene.onlooker).awaitHolding(until: .now + .milliseconds(200))
      }
      #expect(error?.reason.contains("prepared transaction 'two''phase'") == true, "\(error?.reason ?? "")")
      #expect(error?.remedy?.contains("COMMIT PREPARED 'two''phase';") == true)
      #expect(await !waiting.hasEnded)
      try await writer.execute("COMMIT PREPARED 'two''phase'")
      #expect(try await waiting.value == 1)
      await writer.close()
    }
  }

  @Test("Arming against a writer that does not end fails in time and names it")
  func armBlocked() async throws {
    try await Scene.fenced("armblocked") { scene in
      try await scene.createWritableTables()
      let writer = try await scene.session("BEGIN", "INSERT INTO keyed VALUES (100, 0)")
      let pid = try #require(try await writer.value("SELECT pg_backend_pid()"))
      let began = ContinuousClock.now
      let error = await #expect(throws: MigrationError.self) {
        try await scene.writeFence.arm(within: .seconds(1))
      }
      #expect(ContinuousClock.now - began < .seconds(5))
      #expect(error?.reason.contains("pid \(pid)") == true, "\(error?.reason ?? "")")
      #expect(error?.action.contains("\"keyed\"") == true)
      try await writer.execute("ROLLBACK")
      #expect(try await scene.writeFence.arm(within: .seconds(10)) > 0)
      await writer.close()
    }
  }

  @Test("Maintenance that holds a table's lock delays the arming of that table, and stalls no writer")
  func maintenance() async throws {
    try await Scene.fenced("maintenance") { scene in
      try await scene.createWritableTables()
      // As VACUUM and CREATE INDEX CONCURRENTLY hold it, for as long as they run.
      let vacuum = try await scene.session("BEGIN", "LOCK TABLE ONLY keyed IN SHARE UPDATE EXCLUSIVE MODE")
      let arming = UnderWay { try await scene.writeFence.arm(within: .seconds(30)) }
      try await waitUntil("a try that waits for the lock", within: .seconds(10)) {
        try await scene.sourceValue(
          "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'keyed'::regclass") == "1"
      }
      let asked = ContinuousClock.now
      #expect(try await scene.refusal(of: Attempt("UPDATE keyed SET v = 2 WHERE id = 2")) == nil)
      #expect(ContinuousClock.now - asked < .seconds(1))
      try await vacuum.execute("COMMIT")
      #expect(try await arming.value > 0)
      await vacuum.close()
    }
  }
}
