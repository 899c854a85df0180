import Clusters
import Testing

@testable import MigrationEngine

/// Cutovers that are only rehearsed, those that end what holds them up, and what the report says of both.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(3)))
struct RehearsalTests {
  @Test("A rehearsal pauses writes for a moment, leaves both ends as they were, and can be repeated")
  func rehearsal() async throws {
    try await Scene.run("rehearsal") { scene in
      let ledger = Ledger(writers: 4, transactionsPerSecond: 200)
      try await ledger.createTables(on: scene.databases.source)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      ledger.start(on: scene.databases.source)
      for _ in 0..<3 {
        try await scene.waitUntilReady(engine)
        let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
        #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)\(engine.errors)")
        #expect(rehearsal.output.contains("rehearsed"), "\(rehearsal.output)")
        let status = try await scene.status()
        #expect(status.phase == .streaming)
        #expect(status.cutover?.result == .rehearsed)
        #expect(status.cutover?.timeline.map(\.step).suffix(3) == ["verify", "examine", "unfence"])
        #expect(try #require(status.cutover?.writePauseSeconds) < 2)
        #expect(try await scene.sourceValue("SELECT state FROM replicate.fence()") == "open")
        let refused = "INSERT INTO ledger_entry DEFAULT VALUES"
        #expect(try await scene.refusal(of: refused, on: scene.databases.target) == "25006")
      }
      try await scene.waitUntilReady(engine)
      await ledger.stop()
      try await scene.expectEqualEnds(engine)
      #expect(try await ledger.verify(on: scene.databases.target) == [])
      let report = try await scene.report()
      #expect(report.cutovers.map(\.state) == ["rehearsed", "rehearsed", "rehearsed", "complete"])
      #expect(report.status.phase == .complete)
      #expect(report.tables.count == Int(report.status.copy.tablesTotal))
      #expect(report.events.first?.what.hasPrefix("begun by ") == true)
      let people = try await scene.replicate.run("report")
      for part in [
        "Rehearsal", "Cutover", "complete; writes paused for", "nonce", "encryption", "snapshot at",
        "--verify changed", "--no-reverse",
      ] {
        #expect(people.output.contains(part), "\(part) in: \(people.output)")
      }
    }
  }

  @Test("A client that truncates a table all the time keeps no cutover from being sealed")
  func truncating() async throws {
    try await Scene.run("truncating") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE queue (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let client = try await SQLSession(scene.databases.source)
      let truncations = Task {
        var count = 0
        while !Task.isCancelled {
          do {
            try await client.execute("TRUNCATE queue")
            count += 1
          } catch let failure as SQLFailure where failure.sqlState == "25006" {
            continue
          }
          try await Task.sleep(for: .milliseconds(15))
        }
        return count
      }
      for round in 0..<8 {
        let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
        #expect(rehearsal.exitCode == 0, "\(round): \(rehearsal.output)\(rehearsal.errors)")
      }
      truncations.cancel()
      _ = await truncations.result
      await client.close()
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test(
    "A prepared transaction keeps rehearsal and cutover from beginning, and is named by its gid",
    .ownServers)
  func prepared() async throws {
    try await Scene.run("pending") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source("BEGIN \\; INSERT INTO t VALUES (1) \\; PREPARE TRANSACTION 'left''over'")
      for options in [["--dry-run"], []] {
        let refused = try await scene.replicate.run(["cutover", "--yes", "--timeout", "3s"] + options)
        #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
        for part in ["prepared transaction 'left''over'", "COMMIT PREPARED 'left''over';"] {
          #expect(refused.errors.contains(part), "\(part) in: \(refused.errors)")
        }
        #expect(try await scene.sourceValue("SELECT state FROM replicate.fence()") == "open")
      }
      try await scene.source("COMMIT PREPARED 'left''over'")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
      #expect(try await scene.targetValue("SELECT id FROM t") == "1")
    }
  }

  @Test(
    "A session that holds the cutover up is named with its statement's kind, and ended where asked for"
  )
  func blockers() async throws {
    try await Scene.run("blockers") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let reader = try await SQLSession(scene.databases.source)
      try await reader.execute("BEGIN")
      try await reader.execute("SELECT * FROM other")
      let writer = try await SQLSession(scene.databases.source)
      try await writer.execute("SET application_name = 'billing'")
      try await writer.execute("BEGIN")
      try await writer.execute("INSERT INTO t VALUES (1)")
      let refused = try await scene.replicate.run("cutover", "--yes", "--timeout", "3s")
      #expect(refused.exitCode == 5)
      for part in ["'billing'", "last statement INSERT", "idle in transaction"] {
        #expect(refused.errors.contains(part), "\(part) in: \(refused.errors)")
      }
      let forced = try await scene.replicate.run(
        "cutover", "--yes", "--max-pause", "2s", "--terminate-blockers")
      #expect(forced.exitCode == 0, "\(forced.output)\(forced.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
      try await reader.execute("SELECT * FROM other")
      await #expect(throws: SQLFailure.self) { try await writer.execute("SELECT 1") }
      await reader.close()
      await writer.close()
      let terminated = try await scene.report().cutovers.last?.outcome?.terminated
      #expect(terminated?.count == 1)
      #expect(terminated?.first?.contains("'billing'") == true)
      #expect(try await scene.targetValue("SELECT count(*) FROM t") == "0")
    }
  }
}
