import Clusters
import Foundation
import Synchronization
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// The fence on servers that are busy with maintenance, and on databases of very many tables.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(10)))
struct FenceScaleTests {
  private static let tables =
    ProcessInfo.processInfo.environment["REPLICATE_TEST_TABLES"].flatMap(Int.init) ?? 1000

  @Test(
    """
    Cases 48, 50: guarding, fencing and removing under autovacuum, VACUUM, ANALYZE and CREATE INDEX \
    CONCURRENTLY stall and deadlock nobody, whatever the order of their tables
    """)
  func maintenance() async throws {
    try await Scene.fenced("case48") { scene in
      try await Load.createTables(scene)
      try await scene.with(["autovacuum_naptime": "1s"], on: .source) {
        let load = Load(sessions: 6)
        load.start(on: scene.databases.source)
        let maintenance = Maintenance()
        maintenance.start(on: scene.databases.source)
        let guardian = try await scene.writeFence
        for _ in 1...2 {
          try await load.waitForCommits(more: 100)
          try await maintenance.waitForRounds(more: 6)
          #expect(try await guardian.arm(within: .seconds(60)) == 50)
          _ = try await guardian.fence(expiringAfter: .seconds(60))
          _ = try await scene.writers.awaitHolding(until: .now + .seconds(30))
          try await guardian.unfence()
          try await load.waitForCommits(more: 100)
          try await guardian.remove()
        }
        await load.stop()
        await maintenance.stop()
        #expect(load.failures == [])
        #expect(maintenance.failures == [])
        // A try holds writers up for a fifth of a second, and lets them through before the next.
        #expect(load.longest < .seconds(1.5), "\(load.longest)")
      }
    }
  }

  @Test(
    "Case 49: very many tables and leaves are guarded, fenced and freed with the smallest lock table",
    .ownServers)
  func manyTables() async throws {
    try await Self.withFewLocks { scene in
      try await Self.createTables(on: scene.databases.source)
      // In one transaction the server could not do it.
      let all = """
        DO $$
        DECLARE t regclass;
        BEGIN
          FOR t IN SELECT oid FROM pg_class WHERE relname ~ '^(plain|leaf)_[0-9]+$' LOOP
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', t);
          END LOOP;
        END $$
        """
      #expect(try await scene.refusal(of: Attempt(all)) == "53200")
      let guardian = try await scene.writeFence
      var times: [(String, Duration)] = []
      func timed<Value>(_ what: String, _ body: () async throws -> Value) async throws -> Value {
        let began = ContinuousClock.now
        defer { times.append((what, .now - began)) }
        return try await body()
      }
      let count = Self.tables + 1
      #expect(try await timed("arm") { try await guardian.arm(within: .seconds(600)) } == count)
      _ = try await timed("fence") { try await guardian.fence(expiringAfter: .seconds(300)) }
      #expect(try await scene.refusal(of: Attempt("INSERT INTO leaf_1 VALUES (1)")) == "25006")
      let leaf = Attempt("INSERT INTO parted VALUES (\(Self.tables / 2))")
      #expect(try await scene.refusal(of: leaf) == "25006")
      try await timed("unfence") { try await guardian.unfence() }
      #expect(try await scene.refusal(of: Attempt("INSERT INTO leaf_1 VALUES (1)")) == nil)
      let last = try await guardian.fence(expiringAfter: .seconds(300))
      #expect(try await timed("seal") { try await guardian.seal(last) })
      try await timed("remove") { try await guardian.remove() }
      if Self.isAsked {
        for (what, time) in times { print("\(count) tables: \(what) took \(time)") }
      }
      #expect(try await scene.sourceValue("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == "0")
    }
  }

  /// On a server that has room for few locks: the shared ones would hold those of a thousand tables at
  /// once.
  private static func withFewLocks(_ body: (Scene) async throws -> Void) async throws {
    let cluster = try await Cluster(
      named: "fewlocks",
      .init(settings: [
        "max_locks_per_transaction": "10", "max_connections": "12", "max_prepared_transactions": "0",
        "autovacuum_max_workers": "1", "max_worker_processes": "1", "max_wal_senders": "1",
      ]))
    let result: Result<Void, any Error>
    do {
      try await cluster.start()
      let pair = try await ClusterPair.shared.with(source: cluster)
      result = .success(try await Scene.fenced("fewlocks", on: pair, body))
    } catch {
      result = .failure(error)
    }
    try await cluster.destroy()
    try result.get()
  }

  private static let isAsked = ProcessInfo.processInfo.environment["REPLICATE_TEST_TABLES"] != nil

  @Test(
    "Case 49: a database of very many tables is migrated with the lock tables that check asks for",
    .ownServers, .enabled(if: isAsked, "REPLICATE_TEST_TABLES asks for it"))
  func migration() async throws {
    let pair = try await ClusterPair.shared
    let clusters = [
      "source": try #require(pair.sourceCluster), "target": try #require(pair.targetCluster),
    ]
    try await Scene.run("case49all") { scene in
      try await Self.createTables(on: scene.databases.source)
      let report = try await Preflight.check(
        source: scene.databases.source, target: scene.databases.target)
      let findings = report.findings("max_locks_per_transaction")
      for finding in findings {
        print("\(finding.object): \(finding.why) \(finding.remedy)")
        let cluster = try #require(clusters[finding.object])
        let command = try #require(finding.remedy.split(separator: ";").first)
        try await SQLSession.run([String(command)], on: cluster.superuser)
        try await cluster.restart()
      }
      let began = ContinuousClock.now
      let engine = try await scene.start("--replica-identity", "full")
      try await scene.waitUntil("ready for a cutover", engine, within: .seconds(900)) {
        $0.phase == .streaming && $0.ready
      }
      print("\(Self.tables) tables: ready after \(ContinuousClock.now - began)")
      let cutover = try await scene.replicate.run(
        ["cutover", "--yes", "--max-pause", "60s", "--timeout", "300s"], limit: .seconds(900))
      print(cutover.output)
      #expect(cutover.exitCode == 0, "\(cutover.errors)\(engine.errors)")
      _ = try await engine.waitForEnd(within: .seconds(120))
      let count = """
        SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p')
          AND relnamespace = 'public'::regnamespace
        """
      #expect(try await scene.targetValue(count) == "\(Self.tables + 1)")
      for finding in findings {
        let cluster = try #require(clusters[finding.object])
        try await SQLSession.run(
          ["ALTER SYSTEM RESET max_locks_per_transaction"], on: cluster.superuser)
        try await cluster.restart()
      }
    }
  }

  /// Half of them leaves of one tree. A transaction makes few, for the sake of its own locks.
  private static func createTables(on source: Clusters.ConnectionString) async throws {
    let session = try await SQLSession(source)
    try await session.execute("CREATE TABLE parted (id int) PARTITION BY LIST (id)")
    for first in stride(from: 1, through: tables / 2, by: 50) {
      try await session.execute(
        """
        DO $$ BEGIN
          FOR n IN \(first)..\(min(first + 49, tables / 2)) LOOP
            EXECUTE format('CREATE TABLE plain_%s (id int PRIMARY KEY)', n);
            EXECUTE format('CREATE TABLE leaf_%s PARTITION OF parted FOR VALUES IN (%s)', n, n);
          END LOOP;
        END $$
        """)
    }
    await session.close()
  }
}

/// What administrators and cron jobs do to tables, each to its own half: ANALYZE and CREATE INDEX
/// CONCURRENTLY of one table deadlock without us.
private final class Maintenance: Sendable {
  private let state = Mutex((rounds: 0, failures: [String]()))
  private let tasks = Mutex<[Task<Void, Never>]>([])

  var failures: [String] { state.withLock { $0.failures } }

  func start(on source: Clusters.ConnectionString) {
    tasks.withLock { tasks in
      for number in 0..<2 { tasks.append(Task { await self.work(number, on: source) }) }
    }
  }

  func stop() async {
    let tasks = tasks.withLock { $0 }
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
  }

  func waitForRounds(more: Int) async throws {
    let before = state.withLock { $0.rounds }
    try await waitUntil("maintenance", within: .seconds(60)) { state.withLock { $0.rounds } >= before + more }
  }

  private func work(_ number: Int, on source: Clusters.ConnectionString) async {
    do {
      let session = try await SQLSession(source)
      var table = number
      while !Task.isCancelled {
        table = (table + 2) % 50
        let statements =
          number == 0
          ? ["VACUUM (FREEZE) load_\(table + 1)", "ANALYZE load_\(table + 1)"]
          : ["CREATE INDEX CONCURRENTLY busy ON load_\(table + 1) (v)", "DROP INDEX CONCURRENTLY busy"]
        for sql in statements {
          do { try await session.execute(sql) } catch { throw HarnessError("\(sql): \(error)") }
        }
        state.withLock { $0.rounds += 1 }
      }
      await session.close()
    } catch {
      state.withLock { $0.failures.append("\(error)") }
    }
  }
}
