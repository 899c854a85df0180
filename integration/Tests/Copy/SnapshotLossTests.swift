import Clusters
import Testing

@testable import MigrationEngine

/// The copy loses its snapshot: what is in the target stays, and the rest comes under a new one.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(5)))
struct SnapshotLossTests {
  private static let tables = 24
  private static let rows = 1500
  private static let workers = 2

  enum Loss: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case enginesDeath = "the engine is killed with -9"
    case workersEnd = "the source ends the sessions that copy"
    case holdersEnd = "the source ends the session that holds the snapshot"
    case timeouts = "the role's timeouts are shorter than the copy"

    var testDescription: String { rawValue }
  }

  @Test("Case 30: the copy goes on with few rows read twice when", arguments: Loss.allCases)
  func loss(_ loss: Loss) async throws {
    try await Scene.run("snapshotloss") { scene in
      try await Self.survive(scene) { engine in
        switch loss {
        case .enginesDeath:
          engine.kill9()
          #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
          return try await scene.start("--jobs", "\(Self.workers)")
        case .workersEnd: try await Self.end("application_name = 'replicate copy'", scene)
        case .holdersEnd: try await Self.end("backend_type = 'walsender'", scene)
        case .timeouts: try await Self.resetTimeouts(scene)
        }
        return engine
      } before: {
        guard loss == .timeouts else { return }
        for setting in Self.timeouts {
          try await scene.source(
            "ALTER DATABASE \(quotedIdentifier(scene.databases.name)) SET \(setting) = '50ms'")
        }
      }
    }
  }

  @Test("Case 38: the copy goes on with few rows read twice when the source restarts", .ownServers)
  func restart() async throws {
    let source = try #require(try await ClusterPair.shared.sourceCluster)
    try await Scene.run("sourcerestart") { scene in
      try await Self.survive(scene) { engine in
        try await source.restart()
        return engine
      }
    }
  }

  private static let timeouts = [
    "idle_in_transaction_session_timeout", "statement_timeout", "lock_timeout",
  ]

  /// The engine's sessions that copy have them by now; the test's own are not to meet them.
  private static func resetTimeouts(_ scene: Scene) async throws {
    let session = try await SQLSession(scene.databases.source, settings: ["statement_timeout": "0"])
    for setting in timeouts {
      try await session.execute(
        "ALTER DATABASE \(quotedIdentifier(scene.databases.name)) RESET \(setting)")
    }
    await session.close()
  }

  private static func end(_ sessions: String, _ scene: Scene) async throws {
    let ended = try await scene.sourceValue(
      """
      SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
      WHERE datname = current_database() AND \(sessions)
      """)
    #expect(ended != "0")
  }

  /// - Parameters:
  ///   - lose: in the middle of the copy; gives back the engine that goes on.
  ///   - before: the engine starts.
  private static func survive(
    _ scene: Scene, _ lose: (BackgroundProcess) async throws -> BackgroundProcess,
    before: () async throws -> Void = {}
  ) async throws {
    for table in 1...tables {
      try await scene.source(
        "CREATE TABLE t\(table) (id int PRIMARY KEY, v text)",
        "INSERT INTO t\(table) SELECT n, repeat('x', 1200) FROM generate_series(1, \(rows)) n")
    }
    // The last thing that takes the snapshot over.
    try await scene.source("SELECT lo_from_bytea(77, 'large')")
    try await before()
    let first = try await scene.start("--jobs", "\(workers)", "--max-rate", "6MB")
    try await scene.waitUntil("the middle of the copy", first) {
      $0.phase == .copy && $0.copy.tablesDone >= tables / 3
    }
    let finished = try await copied(scene)
    let engine = try await lose(first)
    try await scene.waitUntilReady(engine)
    // Finished tables are the same rows as before: nobody wrote them again.
    let after = try await copied(scene)
    #expect(finished.allSatisfy { after[$0.key] == $0.value })
    #expect(after.count == tables)
    let twice = try await rowsRead(scene) - tables * rows
    #expect((0...workers * rows).contains(twice), "\(twice) rows were read twice")
    for table in 1...tables {
      let digest = "SELECT count(*) || ' ' || sum(hashtextextended(t::text, 0)) FROM t\(table) AS t"
      #expect(try await scene.targetValue(digest) == scene.sourceValue(digest))
    }
    #expect(try await scene.largeObjects(.target) == scene.largeObjects(.source))
    #expect(try await horizons(scene) == "0", "nothing holds the source's xmin horizon any more")
    engine.terminate()
    #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
  }

  private static func horizons(_ scene: Scene) async throws -> String? {
    try await scene.sourceValue(
      """
      SELECT (SELECT count(*) FROM pg_replication_slots
          WHERE database = current_database() AND xmin IS NOT NULL)
        + (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
          AND application_name IN ('replicate copy', 'replicate snapshot'))
      """)
  }

  /// As the source counts them: the copy is the only one to read whole tables. Sessions report their share
  /// when they end.
  private static func rowsRead(_ scene: Scene) async throws -> Int {
    let count = "SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables"
    try await waitUntil("the source to have counted") {
      let read = try await scene.sourceValue(count).flatMap { Int($0) }
      return (read ?? 0) >= tables * rows
    }
    return try await scene.sourceValue(count).flatMap { Int($0) } ?? 0
  }

  /// Tables that are in the target, with the transaction that brought them.
  private static func copied(_ scene: Scene) async throws -> [String: String] {
    let session = try await SQLSession(scene.databases.target)
    var result: [String: String] = [:]
    for row in try await session.rows(
      "SELECT relation_name FROM replicate.relation WHERE snapshot_lsn IS NOT NULL")
    {
      guard let table = row.first ?? nil else { continue }
      let xmins = try await session.value("SELECT string_agg(DISTINCT xmin::text, ' ') FROM \(table)")
      result[table] = xmins ?? ""
    }
    await session.close()
    return result
  }
}
