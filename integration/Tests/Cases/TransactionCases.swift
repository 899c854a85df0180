import Clusters
import Foundation
import LibPQ
import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// Transactions that are large, deep, prepared, or slow to apply.
///
/// `REPLICATE_TEST_LARGE_ROWS` (300000) and `REPLICATE_TEST_SUBTRANSACTIONS` (2000) say how large and deep.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(60)))
struct TransactionCases {
  private static let rows = count("REPLICATE_TEST_LARGE_ROWS", default: 300_000)
  private static let subtransactions = count("REPLICATE_TEST_SUBTRANSACTIONS", default: 2000)

  @Test(
    "Case 35: a transaction of many rows, one of many subtransactions half rolled back, a row of 100 MB"
  )
  func large() async throws {
    let tables = [
      #"""
      CREATE TABLE c35 (id int PRIMARY KEY, v int, t text) \; CREATE TABLE c35_deep (id int PRIMARY KEY,
        v int) \;
      CREATE TABLE c35_row (id int PRIMARY KEY, v int, t text) \; ALTER TABLE c35_row ALTER t SET
        STORAGE EXTERNAL
      """#
    ]
    try await Running.stream("large", tables: tables) { running in
      let clock = ContinuousClock()
      let began = clock.now
      let limit = Duration.seconds(60 + Self.rows / 2000)
      try await running.source([
        """
        BEGIN \\; INSERT INTO c35 SELECT i, 0, 'row ' || i FROM generate_series(1, \(Self.rows)) i \\;
        UPDATE c35 SET v = 1 WHERE id % 3 = 0 \\; DELETE FROM c35 WHERE id % 7 = 0 \\; COMMIT
        """
      ])
      let written = clock.now
      try await running.settle(within: limit)
      print(
        "case 35: \(Self.rows) rows written in \(written - began), applied \(clock.now - written) later")
      try await running.source([
        """
        DO $$ BEGIN FOR n IN 1..\(Self.subtransactions) LOOP
          BEGIN
            INSERT INTO c35_deep VALUES (n, 0); UPDATE c35_deep SET v = n WHERE id = n;
            IF n % 2 = 0 THEN RAISE 'rolled back'; END IF;
          EXCEPTION WHEN raise_exception THEN NULL; END;
        END LOOP; END $$
        """
      ])
      try await running.settle(within: limit)
      let peak = try #require(running.engine.peakMemoryBytes)
      print("case 35: the engine took \(peak >> 20) MB, \(clock.now - began) in all")
      #expect(peak < 256 << 20, "the engine took \(peak) bytes")
      #expect(
        try await running.scene.targetValue("SELECT count(*) FROM c35_deep")
          == "\((Self.subtransactions + 1) / 2)")

      try await running.source([
        "INSERT INTO c35_row SELECT 1, 0, repeat('0123456789abcdef', 6553600)", "UPDATE c35_row SET v = 1",
        "UPDATE c35_row SET t = t || 'x', id = 2",
      ])
      try await running.settle()
      let ofRow = try #require(running.engine.peakMemoryBytes)
      #expect(ofRow < 1 << 30, "a row of 100 MB took the engine \(ofRow) bytes")
      print("case 35: a row of 100 MB took the engine \(ofRow >> 20) MB")
      try await running.expectEqualEnds()
    }
  }

  @Test(
    "Case 36: what is prepared while it streams comes with its COMMIT PREPARED, over a new engine, too"
  )
  func prepared() async throws {
    try await Running.stream("prepared", tables: ["CREATE TABLE t (id int PRIMARY KEY, v int)"]) { running in
      let scene = running.scene
      let name = scene.databases.name
      func prepare(_ number: Int) -> String {
        "BEGIN \\; INSERT INTO t SELECT i, \(number) FROM generate_series(\(number), \(number) + 50) i \\; "
          + "PREPARE TRANSACTION '\(name)_\(number)'"
      }
      try await running.source([prepare(100), prepare(200), prepare(300), "INSERT INTO t VALUES (1, 1)"])
      try await running.settle()
      try await running.replaceEngine()
      try await running.source([
        "COMMIT PREPARED '\(name)_100'", "UPDATE t SET v = v + 1", "ROLLBACK PREPARED '\(name)_200'",
      ])
      try await running.settle()
      #expect(try await scene.targetValue("SELECT count(*) FROM t") == "52")
      try await scene.waitUntilReady(running.engine)
      let refused = try await scene.replicate.run("cutover", "--yes", "--timeout", "10s")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      #expect(refused.errors.contains("\(name)_300"), "the transaction is named: \(refused.errors)")
      try await running.source(["COMMIT PREPARED '\(name)_300'"])
      try await running.expectEqualEnds()
    }
  }

  @Test(
    "Case 29: a transaction, prepared or open, that holds up the creation of the slot is named"
  )
  func slotCreation() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "heldslot") { databases in
      let session = try await SQLSession(databases.source)
      try await session.execute("CREATE TABLE t (id int)")
      try await session.execute(
        "BEGIN \\; INSERT INTO t VALUES (1) \\; PREPARE TRANSACTION '\(databases.name)'")
      let source = try LibPQ.ConnectionString(databases.source.text, for: "source")
      let observer = try await Session.open(source, end: "source", purpose: "test")
      let name = try #require(SlotName(databases.name))
      let slot = ReplicationSlot(name: name)
      let prepared = await #expect(throws: MigrationError.self) {
        _ = try await slot.create(on: source, observer: observer, within: .seconds(1))
      }
      #expect(
        prepared?.description.contains("'\(databases.name)'") == true, "\(String(describing: prepared))")
      try await session.execute("ROLLBACK PREPARED '\(databases.name)'")
      try await session.execute("BEGIN \\; INSERT INTO t VALUES (1)")
      let pid = try await session.value("SELECT pg_backend_pid()") ?? ""
      let open = await #expect(throws: MigrationError.self) {
        _ = try await slot.create(on: source, observer: observer, within: .seconds(1))
      }
      #expect(open?.description.contains("pid \(pid)") == true, "\(String(describing: open))")
      try await session.execute("ROLLBACK")
      // Nothing of a try that failed is left, and the next one succeeds.
      let created = try await slot.create(on: source, observer: observer, within: .seconds(10))
      await created.release()
      await observer.close()
      await session.close()
    }
  }
}
