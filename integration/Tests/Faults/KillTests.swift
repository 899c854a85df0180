import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Whatever is killed, and whenever, no change is lost and none comes twice.
///
/// `REPLICATE_TEST_KILLS` is how often; 3 unless given.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(30)))
struct KillTests {
  private enum Victim: CaseIterable { case engine, source, target }

  private static let kills =
    ProcessInfo.processInfo.environment["REPLICATE_TEST_KILLS"].flatMap(Int.init) ?? 3

  /// The transaction that inserted a row, as `replicate.progress` has it: what its commit message says.
  private static let lastCommit = """
    WITH message AS (
      SELECT chr(get_byte(data, 0)) AS kind, xid::text, encode(data, 'hex') AS hex
      FROM pg_logical_slot_peek_binary_changes('late', NULL, NULL, 'proto_version', '1',
        'publication_names', 'replicate')),
    commit AS (
      SELECT xid, ('x' || substr(hex, 5, 16))::bit(64)::bigint AS begins,
        ('x' || substr(hex, 21, 16))::bit(64)::bigint AS ends,
        ('x' || substr(hex, 37, 16))::bit(64)::bigint AS at
      FROM message WHERE kind = 'C' AND xid IN (SELECT xid FROM message WHERE kind = 'I'))
    SELECT format(
      'applied_lsn = %L, anchor_lsn = %L, anchor_xid = %s, anchor_time = %s',
      '0/0'::pg_lsn + ends::numeric, '0/0'::pg_lsn + begins::numeric, xid, at)
    FROM commit
    """

  @Test("What a session that its engine had given up commits late is not done twice")
  func lateCommit() async throws {
    try await Running.stream("late", tables: ["CREATE TABLE log (v text)"]) { running in
      let scene = running.scene
      try await running.settle()
      try await running.engine.whileFrozen {
        try await scene.source(
          "SELECT pg_create_logical_replication_slot('late', 'pgoutput')",
          "INSERT INTO log VALUES ('once')")
        let position = try await scene.sourceValue(Self.lastCommit) ?? ""
        try await scene.source("SELECT pg_drop_replication_slot('late')")
        // As the session of an engine before this one would.
        try await scene.target(
          """
          BEGIN \\; SET LOCAL session_replication_role = replica \\; INSERT INTO log VALUES ('once') \\;
          UPDATE replicate.progress SET \(position) \\; COMMIT
          """)
      }
      try await scene.source("INSERT INTO log VALUES ('later')")
      try await running.settle()
      let rows = try await scene.targetValue("SELECT string_agg(v, ' ' ORDER BY v) FROM log")
      #expect(rows == "later once")
      try await running.expectEqualEnds()
    }
  }

  @Test(
    "Case 34: engine, source and target killed at random moments under load: both ends are equal",
    .ownServers)
  func atRandom() async throws {
    let source = try #require(try await ClusterPair.shared.sourceCluster)
    let target = try #require(try await ClusterPair.shared.targetCluster)
    try await Scene.run("kills") { scene in
      let ledger = Ledger(writers: 4, transactionsPerSecond: 400)
      try await ledger.createTables(on: scene.databases.source)
      try await scene.source(
        "CREATE TABLE bulk (id int PRIMARY KEY, v int, note text)",
        "INSERT INTO bulk SELECT n, 0, repeat('x', 200) FROM generate_series(1, 20000) n")
      var engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      ledger.start(on: scene.databases.source)
      for kill in 0..<Self.kills {
        let bulk = Task { await Self.attempt("UPDATE bulk SET v = v + 1", scene) }
        // The moment is what is tested.
        try await Task.sleep(for: .milliseconds(Int.random(in: 0...1500)))
        switch Victim.allCases[kill % Victim.allCases.count] {
        case .engine:
          engine.kill9()
          _ = try await engine.waitForEnd(within: .seconds(10))
          engine = try await scene.start()
        case .source:
          try await source.kill9()
          try await source.start()
        case .target:
          try await target.kill9()
          try await target.start()
        }
        await bulk.value
        try await Self.waitForChange(to: scene, by: engine)
      }
      await ledger.stop()
      #expect(ledger.report.failures == [])
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
      #expect(try await ledger.verify(on: scene.databases.target) == [])
    }
  }

  /// A statement whose server may be killed under it; then it did not happen, on either end.
  private static func attempt(_ sql: String, _ scene: Scene) async { try? await scene.source(sql) }

  /// A change made now is on the target: the stream goes.
  private static func waitForChange(to scene: Scene, by engine: BackgroundProcess) async throws {
    let before = try await scene.sourceValue("SELECT max(id) FROM ledger_entry") ?? "0"
    try await engine.waitUntil("the stream continues", within: .seconds(90)) {
      let reached = "SELECT coalesce(max(id), 0) >= \(before) FROM ledger_entry"
      return try await scene.targetValue(reached) == "t"
    }
  }
}
