import Clusters
import Testing

@testable import MigrationEngine

/// A server that is set back in time with its slot: positions come again, with another history.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(6)), .ownServers)
struct HistoryTests {
  private static let table = """
    CREATE TABLE t (id int PRIMARY KEY, v text) \\;
    INSERT INTO t SELECT n, 'first' FROM generate_series(1, 100) n
    """

  /// With a source of its own, whose data can be exchanged.
  private static func run(_ name: String, _ body: (Scene, Cluster) async throws -> Void) async throws {
    try await withCluster { source in
      try await Scene.run(name, on: ClusterPair.shared.with(source: source)) { scene in
        try await scene.source(table)
        try await body(scene, source)
      }
    }
  }

  private static func withCluster(_ body: (Cluster) async throws -> Void) async throws {
    let cluster = try await Cluster(named: "history")
    do {
      try await cluster.start()
      try await body(cluster)
    } catch {
      try await cluster.destroy()
      throw error
    }
    try await cluster.destroy()
  }

  /// Rows that take more WAL than what a server writes by itself when it starts.
  private static func insert(_ what: String, from first: Int) -> String {
    """
    INSERT INTO t SELECT n, '\(what)' || repeat('x', 100)
    FROM generate_series(\(first), \(first + 4999)) n
    """
  }

  private static func count(_ what: String) -> String { "SELECT count(*) FROM t WHERE v ~ '^\(what)'" }

  /// Rows are streamed, and the server that sent them is set back to before them.
  private static func loseRows(_ scene: Scene, _ server: Cluster, back: Bool = false) async throws {
    let engine = try await start(scene, back: back)
    try await insertAndWait("early", from: 1000, scene, engine, back: back)
    try await server.stop()
    try await server.keepData()
    try await server.start()
    try await insertAndWait("lost", from: 10_000, scene, engine, back: back)
    engine.kill9()
    _ = try await engine.waitForEnd(within: .seconds(10))
    try await server.kill9()
    try await server.exchangeData()
    try await server.start()
  }

  private static func start(_ scene: Scene, back: Bool) async throws -> BackgroundProcess {
    guard back else {
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      return engine
    }
    let engine = try await scene.replicate.start("start", "--allow-unencrypted-target")
    try await scene.waitUntilReady(engine)
    let cutover = try await scene.replicate.run("cutover", "--yes")
    #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
    try await scene.waitUntil("the reverse stream", engine) { $0.phase == .reverse && $0.ready }
    return engine
  }

  private static func insertAndWait(
    _ what: String, from first: Int, _ scene: Scene, _ engine: BackgroundProcess, back: Bool
  ) async throws {
    let insert = insert(what, from: first)
    if back { try await scene.target(insert) } else { try await scene.source(insert) }
    try await engine.waitUntil("the rows that are \(what)", within: .seconds(60)) {
      let found = back ? scene.sourceValue : scene.targetValue
      return try await found(count(what)) == "5000"
    }
  }

  private static func expectRefusal(_ scene: Scene, _ words: String...) async throws {
    let engine = try await scene.start()
    #expect(try await engine.waitForEnd(within: .seconds(60)) == 1, "\(engine.errors)")
    for words in words { #expect(engine.errors.contains(words), "\(engine.errors)") }
    let status = try await scene.status()
    #expect(status.phase == .failed)
    #expect(status.failure?.contains("was restored to an earlier time, or is another server") == true)
    #expect(try await scene.targetValue(count("lost")) == "5000")
    #expect(try await scene.targetValue(count("other")) == "0")
  }

  @Test("A source that was set back and written to since is refused; given back what it lost, it goes on")
  func writtenBeyond() async throws {
    try await Self.run("setback") { scene, source in
      try await Self.loseRows(scene, source)
      let applied = try await scene.targetValue("SELECT applied_lsn FROM replicate.progress") ?? ""
      var first = 20_000
      while try await scene.sourceValue("SELECT pg_current_wal_flush_lsn() <= '\(applied)'") == "t" {
        try await scene.source(Self.insert("other", from: first))
        first += 5000
      }
      try await scene.source(Self.insert("other", from: first))
      try await Self.expectRefusal(
        scene, "the source was restored to an earlier time, or is another server", "in place of transaction")
      // What was looked at confirms nothing: the next engine sees the same.
      try await Self.expectRefusal(scene, "the source was restored to an earlier time, or is another server")

      try await source.kill9()
      try await source.exchangeData()
      try await source.start()
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source("UPDATE t SET v = 'again' WHERE id < 2000")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test(
    "One whose WAL ends before what was applied is refused at once; the way out leads to a new migration")
  func notReached() async throws {
    try await Self.run("notreached") { scene, source in
      try await Self.loseRows(scene, source)
      try await Self.expectRefusal(scene, "its WAL ends at", "replicate abort --drop-target-data")
      let abort = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source(Self.insert("other", from: 20_000))
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("One that was set back to where nothing is missing goes on, and nothing it writes there is lost")
  func nothingMissing() async throws {
    try await Self.run("setidle") { scene, source in
      let first = try await scene.start()
      try await scene.waitUntilReady(first)
      try await Self.insertAndWait("early", from: 1000, scene, first, back: false)
      try await source.stop()
      try await source.keepData()
      try await source.start()
      // What is nobody's is confirmed, and then the source has never written it.
      try await scene.source(
        """
        SELECT count(pg_logical_emit_message(false, 'noise', repeat('x', 100000)))
        FROM generate_series(1, 50)
        """
      )
      let position = try await scene.sourceValue("SELECT pg_current_wal_flush_lsn()") ?? ""
      try await first.waitUntil("that it is confirmed", within: .seconds(30)) {
        try await scene.targetValue("SELECT confirmed_lsn >= '\(position)' FROM replicate.confirmation")
          == "t"
      }
      first.kill9()
      _ = try await first.waitForEnd(within: .seconds(10))
      try await source.kill9()
      try await source.exchangeData()
      try await source.start()

      var engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      try await scene.source("INSERT INTO t SELECT n, 'other' FROM generate_series(20001, 20010) n")
      #expect(try await scene.sourceValue("SELECT pg_current_wal_flush_lsn() < '\(position)'") == "t")
      engine = try await scene.start()
      try await engine.waitUntil("what was written there since", within: .seconds(60)) {
        try await scene.targetValue(Self.count("other")) == "10"
      }
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test(
    "A new timeline with the same history is reported, and followed, also when the slot knows less than we do"
  )
  func timeline() async throws {
    try await Self.run("promoted") { scene, source in
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await Self.insertAndWait("early", from: 1000, scene, engine, back: false)
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      try await source.restartOnNewTimeline()
      try await scene.source(Self.insert("later", from: 10_000))
      let next = try await scene.start()
      try await scene.waitUntilReady(next)
      let events = try await scene.targetValue(
        "SELECT count(*) FROM replicate.event WHERE what ~ 'from timeline 1 to timeline 2'")
      #expect(events == "1")
      try await scene.expectEqualEnds(next)
    }
  }

  @Test("A target that was set back after the cutover is refused by reverse replication, which can be ended")
  func reverseReplication() async throws {
    try await Self.withCluster { target in
      try await Scene.run("setback_back", on: ClusterPair.shared.with(target: target)) { scene in
        try await scene.source(Self.table)
        try await Self.loseRows(scene, target, back: true)
        for isReached in [false, true] {
          if isReached {
            for n in 0..<3 { try await scene.target(Self.insert("other", from: 20_000 + n * 5000)) }
          }
          let engine = try await scene.replicate.start("start", "--allow-unencrypted-target")
          #expect(try await engine.waitForEnd(within: .seconds(60)) == 1, "\(engine.errors)")
          #expect(
            engine.errors.contains("the target was restored to an earlier time, or is another server"),
            "\(engine.errors)")
          #expect(engine.errors.contains("run replicate finish"), "\(engine.errors)")
        }
        #expect(try await scene.sourceValue(Self.count("lost")) == "5000")
        #expect(try await scene.sourceValue(Self.count("other")) == "0")
        let finish = try await scene.replicate.run("finish", "--yes")
        #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      }
    }
  }
}
