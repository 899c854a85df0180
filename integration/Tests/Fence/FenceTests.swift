import Clusters
import LibPQ
import Testing

@testable import MigrationEngine

/// Who is kept out by the fence, who is not, and for how long.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct FenceTests {
  @Test("No write passes the fence, whoever writes and however; reads go on, and so do writes afterwards")
  func everyWriter() async throws {
    try await Scene.fenced("fence") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      #expect(try await guardian.unguarded() == [])
      let prepared = try await SQLSession(scene.databases.source)
      try await prepared.execute("PREPARE ahead AS UPDATE keyed SET v = v + 1")
      try await prepared.execute("EXECUTE ahead")

      _ = try await guardian.fence(expiringAfter: .seconds(60))
      for attempt in Self.attempts {
        let state = try await scene.refusal(of: attempt)
        #expect(state == "25006", "\(attempt): \(state ?? "accepted")")
      }
      #expect(try await Self.refusal { try await prepared.execute("EXECUTE ahead") } == "25006")
      #expect(try await Self.refusal { try await scene.writeThroughOptions() } == "25006")
      #expect(try await Self.refusal { try await scene.writeThroughItself() } == "25006")
      for read in Self.reads { #expect(try await scene.refusal(of: read) == nil, "\(read)") }

      try await guardian.unfence()
      for attempt in Self.attempts {
        #expect(try await scene.refusal(of: attempt) != "25006", "\(attempt)")
      }
      try await prepared.execute("EXECUTE ahead")
      await prepared.close()
    }
  }

  @Test("A fence that nobody takes down expires by itself")
  func expiry() async throws {
    try await Scene.fenced("expiry") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let fence = try await guardian.fence(expiringAfter: .milliseconds(1500))
      let write = Attempt("UPDATE keyed SET v = 0")
      #expect(try await scene.refusal(of: write) == "25006")
      try await waitUntil("the expiry", within: .seconds(10)) { try await scene.refusal(of: write) == nil }
      #expect(ContinuousClock.now >= fence.localDeadline, "not before it was promised to stand")
    }
  }

  @Test("Arming again guards what was added, disabled or dropped since, and unguarded() names it before")
  func armAgain() async throws {
    try await Scene.fenced("rearm") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      let first = try await guardian.arm(within: .seconds(20))
      #expect(first > 5)
      #expect(try await guardian.arm(within: .seconds(20)) == 0)
      try await scene.source(
        "ALTER TABLE keyed DISABLE TRIGGER replicate_guard", "DROP TRIGGER replicate_guard ON parted_a",
        "ALTER TABLE parted ENABLE REPLICA TRIGGER replicate_guard",
        "CREATE TABLE added (id int PRIMARY KEY)")
      let missing = try await guardian.unguarded().map(\.name)
      #expect(missing == ["added", "keyed", "parted", "parted_a"])
      #expect(try await guardian.arm(within: .seconds(20)) == 4)
      _ = try await guardian.fence(expiringAfter: .seconds(60))
      for table in missing {
        #expect(try await scene.refusal(of: Attempt("DELETE FROM \(table)")) == "25006", "\(table)")
      }
    }
  }

  @Test("The seal refuses while a table is unguarded, and is for good once it stands")
  func seal() async throws {
    try await Scene.fenced("seal") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let fence = try await guardian.fence(expiringAfter: .seconds(60))
      try await scene.source("CREATE TABLE latecomer (id int)")
      let refusal = await #expect(throws: MigrationError.self) { try await guardian.seal(fence) }
      #expect(refusal?.reason.contains("latecomer") == true)
      #expect(try await scene.fenceState == .fenced)

      try await scene.source("DROP TABLE latecomer")
      #expect(try await guardian.seal(fence))
      #expect(try await scene.fenceState == .sealed)
      await #expect(throws: WriteFence.Sealed.self) { try await guardian.unfence() }
      await #expect(throws: WriteFence.Sealed.self) {
        try await guardian.fence(expiringAfter: .seconds(1))
      }
      #expect(try await scene.refusal(of: Attempt("DELETE FROM keyed")) == "25006")
    }
  }

  @Test("A sealed guard lets the sessions of one engine through, and nobody who guesses or came before")
  func pass() async throws {
    try await Scene.fenced("pass") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      await #expect(throws: MigrationError.self, "it is not sealed") {
        try await guardian.admit(WriteFence.Pass())
      }
      #expect(try await guardian.seal(try await guardian.fence(expiringAfter: .seconds(60))))
      let string = try LibPQ.ConnectionString(scene.databases.source.text, for: "source")
      func passes(_ pass: WriteFence.Pass) async throws -> Bool {
        let session = try await Session.open(pass.applied(to: string), end: "source", purpose: "test")
        defer { Task { await session.close() } }
        do {
          try await session.query("UPDATE public.keyed SET v = 0", doing: "passing")
          return true
        } catch let error as PostgresError where error.sqlState?.rawValue == "25006" {
          return false
        }
      }
      let (first, second) = (WriteFence.Pass(), WriteFence.Pass())
      try await guardian.admit(first)
      #expect(try await passes(first))
      #expect(try await !passes(second))
      try await guardian.admit(second)
      #expect(try await !passes(first), "it was another engine's")
      #expect(try await passes(second))
      for value in ["", "guess"] {
        let attempt = Attempt("UPDATE keyed SET v = 1", settings: ["replicate.pass": value])
        #expect(try await scene.refusal(of: attempt) == "25006")
      }
      #expect(!"\(second.applied(to: string))".contains("replicate.pass"))
      try await guardian.admit(nil)
      #expect(try await !passes(second))
    }
  }

  @Test("A seal that comes after the expiry says so")
  func lateSeal() async throws {
    try await Scene.fenced("late") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      let fence = try await guardian.fence(expiringAfter: .milliseconds(300))
      let write = Attempt("UPDATE keyed SET v = 0")
      try await waitUntil("the expiry", within: .seconds(10)) { try await scene.refusal(of: write) == nil }
      #expect(try await guardian.seal(fence) == false)
      #expect(try await scene.refusal(of: write) == "25006")
    }
  }

  @Test(
    "A fence that was taken down or put up anew since cannot be sealed by the engine that had put it up")
  func foreignFence() async throws {
    try await Scene.fenced("foreign") { scene in
      try await scene.createWritableTables()
      let first = try await scene.writeFence
      let second = WriteFence(try await scene.onlooker)
      let write = Attempt("UPDATE keyed SET v = 0")
      try await first.arm(within: .seconds(20))
      let lost = try await first.fence(expiringAfter: .seconds(60))
      try await second.arm(within: .seconds(20))
      await #expect(throws: MigrationError.self) { try await first.seal(lost) }
      #expect(try await scene.refusal(of: write) == nil)

      let fence = try await second.fence(expiringAfter: .seconds(60))
      await #expect(throws: MigrationError.self) { try await first.seal(lost) }
      #expect(try await scene.fenceState == .fenced)
      #expect(try await second.seal(fence))
    }
  }

  @Test("Removing it leaves neither triggers nor function")
  func remove() async throws {
    try await Scene.fenced("remove") { scene in
      try await scene.createWritableTables()
      let guardian = try await scene.writeFence
      try await guardian.arm(within: .seconds(20))
      try await guardian.remove()
      let left = try await scene.sourceValue(
        """
        SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)
          + (SELECT count(*) FROM pg_proc WHERE proname = 'guard')
        """)
      #expect(left == "0")
    }
  }

  private static func refusal(of body: () async throws -> Void) async throws -> String? {
    do {
      try await body()
      return nil
    } catch let failure as SQLFailure {
      return failure.sqlState
    }
  }

  /// CASES of writers that other fences let through, and plain ones.
  private static let attempts: [Attempt] = [
    Attempt("INSERT INTO keyed VALUES (100, 0)"), Attempt("UPDATE keyed SET v = 1 WHERE id = 1"),
    Attempt("DELETE FROM keyed WHERE false"), Attempt("TRUNCATE keyed CASCADE"), Attempt("TRUNCATE parted"),
    Attempt("UPDATE keyed SET v = 1", settings: ["default_transaction_read_only": "off"]),
    Attempt("BEGIN READ WRITE; UPDATE keyed SET v = 1"),
    Attempt("UPDATE keyed SET v = 1", settings: ["session_replication_role": "replica"]),
    Attempt("COPY keyed FROM PROGRAM 'printf 7\\\\\\\\t7'"),
    Attempt("INSERT INTO parted VALUES (1)"), Attempt("INSERT INTO parted_a VALUES (1)"),
    Attempt("UPDATE volatile SET n = 1"), Attempt("INSERT INTO child VALUES (1)"),
    Attempt("SELECT change()"), Attempt("INSERT INTO \"Odd % \"\"n\"\" ame\" VALUES (1)"),
    Attempt("WITH d AS (DELETE FROM keyed RETURNING id) SELECT count(*) FROM d"),
    Attempt("INSERT INTO keyed VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET v = 2"),
    Attempt(
      """
      MERGE INTO keyed USING (SELECT 1 AS id) s ON keyed.id = s.id WHEN MATCHED THEN DELETE /*15+*/
      DELETE FROM keyed USING (SELECT 1 AS id) s WHERE keyed.id = s.id /*15-*/
      """),
    Attempt("UPDATE keyed SET v = 1", role: "powerless_writer"),
    Attempt("SELECT change_as_owner()", role: "powerless_writer"),
    Attempt("DO $$ BEGIN UPDATE public.keyed SET v = 1;END $$"),
    Attempt("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; UPDATE keyed SET v = 1"),
    Attempt("UPDATE keyed_view SET v = 1"), Attempt("EXPLAIN ANALYZE DELETE FROM keyed"),
    Attempt(
      "BEGIN; DECLARE c CURSOR FOR SELECT * FROM keyed FOR UPDATE; FETCH 1 FROM c; "
        + "UPDATE keyed SET v = 9 WHERE CURRENT OF c"),
  ]

  private static let reads: [Attempt] = [
    Attempt("SELECT * FROM keyed"), Attempt("SELECT * FROM keyed FOR UPDATE"),
    Attempt("SELECT nextval('counter')"), Attempt("CREATE TEMP TABLE own AS SELECT * FROM keyed"),
    Attempt("REFRESH MATERIALIZED VIEW summary"), Attempt("VACUUM keyed"), Attempt("ANALYZE keyed"),
    Attempt("SELECT * FROM keyed", role: "powerless_writer"),
  ]
}
