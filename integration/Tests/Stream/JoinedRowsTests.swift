import Clusters
import Testing

@testable import MigrationEngine

/// Transactions that the source sends before they have ended, beside copies that are newer than the stream:
/// each row comes once, with the copy or by the stream.
@Suite(.serialized, .servers(about: 110), .timeLimit(.minutes(6)))
struct JoinedRowsTests {
  /// Where nothing keeps a row from coming twice, and where the second would be refused.
  private static let keys = ["", "PRIMARY KEY"]

  private static func run(
    _ name: String, _ body: (Scene, BackgroundProcess) async throws -> Void
  ) async throws {
    try await Scene.run(name) { scene in
      // The source streams as soon as it may.
      try await scene.source(
        "ALTER DATABASE \(scene.databases.name) SET logical_decoding_work_mem = '64kB'",
        """
        CREATE TABLE old (id int PRIMARY KEY, v text) \\;
        INSERT INTO old SELECT n, 'x' FROM generate_series(1, 100) n
        """)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await body(scene, engine)
    }
  }

  private static func create(_ key: String) -> String {
    "CREATE TABLE fresh (id int \(key), v text) \\; ALTER TABLE fresh REPLICA IDENTITY FULL"
  }

  private static func rows(_ first: Int, _ last: Int, into table: String = "fresh") -> String {
    "INSERT INTO \(table) SELECT n, repeat('y', 300) FROM generate_series(\(first), \(last)) n"
  }

  /// One transaction that changes a table before it is published and, much, after that; then the table has
  /// been copied.
  private static func join(_ key: String, _ scene: Scene, _ engine: BackgroundProcess) async throws {
    let session = try await SQLSession(scene.databases.source)
    try await session.execute(create(key))
    try await session.execute("BEGIN")
    try await session.execute("INSERT INTO fresh VALUES (0, 'unpublished')")
    try await engine.waitUntil("the table in the publication", within: .seconds(30)) {
      let found = "SELECT count(*) FROM pg_publication_rel WHERE prrelid = 'fresh'::regclass"
      return try await scene.sourceValue(found) == "1"
    }
    try await session.execute(rows(1, 5000))
    try await session.execute("COMMIT")
    await session.close()
    try await engine.waitUntil("the table's copy", within: .seconds(60)) {
      let copied = """
        SELECT count(*) FROM replicate.relation WHERE relation_name = 'fresh' AND snapshot_lsn IS NOT NULL
        """
      return try await scene.targetValue(copied) == "1"
    }
  }

  /// Changes made now come whole, too.
  private static func expectEach(
    _ count: Int, _ scene: Scene, _ engine: BackgroundProcess
  ) async throws {
    try await scene.waitUntilReady(engine)
    try await scene.source(rows(100_001, 105_000))
    try await engine.waitUntil("each row once", within: .seconds(60)) {
      try await scene.targetValue("SELECT count(*) FROM fresh") == "\(count + 5000)"
    }
    try await scene.expectEqualEnds(engine)
  }

  @Test("Rows of a transaction that began before its table was published come once", arguments: keys)
  func once(_ key: String) async throws {
    try await Self.run("joined") { scene, engine in
      try await Self.join(key, scene, engine)
      guard try await ClusterPair.sourceMajor() >= 14 else {
        return try await Self.expectEach(5001, scene, engine)
      }
      // After the snapshot open transactions are streamed again.
      let slot = "pg_replication_slots WHERE database = current_database()"
      try await scene.source("SELECT pg_stat_reset_replication_slot(slot_name) FROM \(slot)")
      let more = """
        INSERT INTO fresh SELECT max(id) + n, repeat('y', 300) FROM fresh, generate_series(1, 1000) n
        GROUP BY n
        """
      let streamed = "SELECT stream_txns > 0 FROM pg_stat_replication_slots"
      try await engine.waitUntil("a streamed transaction", within: .seconds(60), every: .seconds(1)) {
        try await scene.source(more)
        return try await scene.sourceValue(
          "\(streamed) WHERE slot_name IN (SELECT slot_name FROM \(slot))") == "t"
      }
      let count = try await scene.sourceValue("SELECT count(*) FROM fresh").flatMap { Int($0) }
      try await Self.expectEach(try #require(count), scene, engine)
    }
  }

  @Test("So they do when the source crashes as soon as the table has joined", .ownServers, arguments: keys)
  func crashed(_ key: String) async throws {
    let source = try #require(try await ClusterPair.shared.sourceCluster)
    try await Self.run("joinedcrash") { scene, engine in
      try await Self.join(key, scene, engine)
      try await source.kill9()
      try await source.start()
      try await Self.expectEach(5001, scene, engine)
    }
  }

  @Test("So they do when the engine is killed as soon as the table has joined")
  func killed() async throws {
    try await Self.run("joinedkill") { scene, engine in
      try await Self.join("", scene, engine)
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      try await Self.expectEach(5001, scene, try await scene.start())
    }
  }

  @Test("Large transactions that go on all the time a table joins come once", arguments: keys)
  func underLoad(_ key: String) async throws {
    try await Self.run("joinedload") { scene, engine in
      try await scene.source(Self.create(key))
      let writers = (0..<3).map { writer in
        Task {
          var rows = 0
          while !Task.isCancelled {
            let first = 1_000_000 * (writer + 1) + rows
            try await scene.source(
              """
              BEGIN \\; \(Self.rows(first, first)) \\; \(Self.rows(first, first + 99, into: "old")) \\;
              \(Self.rows(first + 1, first + 499)) \\; UPDATE old SET v = 'z' WHERE id = \(writer + 1) \\;
              COMMIT
              """)
            rows += 500
          }
          return rows
        }
      }
      try await engine.waitUntil("rows that came after the copy", within: .seconds(90)) {
        let behind = """
          SELECT count(*) FROM replicate.relation JOIN replicate.progress
            ON applied_lsn - snapshot_lsn > 3000000 WHERE relation_name = 'fresh'
          """
        return try await scene.targetValue(behind) == "1"
      }
      var count = 0
      for writer in writers {
        writer.cancel()
        count += try await writer.value
      }
      try await Self.expectEach(count, scene, engine)
    }
  }

  @Test("Rows of tables whose copy was resumed come once", arguments: keys)
  func resumedCopy(_ key: String) async throws {
    try await Scene.run("joinedresumed") { scene in
      try await scene.source(
        "ALTER DATABASE \(scene.databases.name) SET logical_decoding_work_mem = '64kB'",
        Self.create(key), Self.rows(200_001, 206_000),
        "CREATE TABLE early (id int, v text) \\; ALTER TABLE early REPLICA IDENTITY FULL",
        Self.rows(1, 8000, into: "early"))
      let first = try await scene.start("--jobs", "1", "--max-rate", "700kB")
      try await scene.waitUntil("the larger table", first) {
        $0.phase == .copy && $0.copy.tablesDone == 1
      }
      first.kill9()
      _ = try await first.waitForEnd(within: .seconds(10))
      try await scene.source(
        "\(Self.rows(1, 3000)) \\; \(Self.rows(8001, 11_000, into: "early"))", Self.rows(3001, 6000))
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await Self.expectEach(12_000, scene, engine)
    }
  }
}
