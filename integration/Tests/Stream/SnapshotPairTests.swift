import Clusters
import Foundation
import LibPQ
import Logging
import Synchronization
import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// Both ends at one LSN, while the source is written to and the stream goes on.
///
/// `REPLICATE_TEST_PAIRS` is how many are taken; 8 unless given.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct SnapshotPairTests {
  private static let pairs =
    ProcessInfo.processInfo.environment["REPLICATE_TEST_PAIRS"].flatMap(Int.init) ?? 8

  @Test("Under 500 transactions a second both snapshots hold the same, and the stream hardly waits")
  func pairs() async throws {
    try await Following.run("pairs") { following in
      let pgbench = try await Pgbench.start(following.databases.source, clients: 4, rate: 500)
      try await waitUntil("changes on the target", within: .seconds(30)) {
        following.monitor.reading.transactions > 500
      }
      let before = following.monitor.reading.transactions
      for pair in 0..<Self.pairs {
        // Large transactions come in blocks while they are open.
        let large = pair.isMultiple(of: 4) ? Task { try await following.writeLarge(pair) } : nil
        // A large transaction takes its time on the target as well.
        following.measuresLag = large == nil
        let taken = try await following.pairing.take()
        following.measuresLag = false
        let (source, target) = try await (following.digest(taken.from), following.digest(taken.to))
        #expect(source == target, "pair \(pair) at \(taken.lsn)")
        await taken.release()
        try await large?.value
      }
      #expect(following.monitor.reading.transactions - before > 1000, "there was load all the while")
      #expect(pgbench.isRunning)
      following.expectSmallLag("while pairs were taken")
      #expect(try await following.slots() == 1, "no slot is left but the stream's")

      // Whoever is in the middle of a transaction holds up the slot, and not the stream.
      following.measuresLag = true
      let idle = try await SQLSession(following.databases.source)
      try await idle.execute("BEGIN")
      try await idle.execute("INSERT INTO large VALUES (0, 'open')")
      async let delayed = following.pairing.take()
      try await waitUntil("a slot that waits", within: .seconds(20)) { try await following.slots() == 2 }
      let count = following.monitor.reading.transactions
      try await waitUntil("changes meanwhile", within: .seconds(20)) {
        following.monitor.reading.transactions > count + 1000
      }
      try await idle.execute("COMMIT")
      let taken = try await delayed
      let (source, target) = try await (following.digest(taken.from), following.digest(taken.to))
      #expect(source == target)
      await taken.release()
      following.expectSmallLag("while a slot waited, and in the end")

      try await idle.execute("BEGIN")
      try await idle.execute("INSERT INTO large VALUES (-1, 'open')")
      let pid = try #require(try await idle.value("SELECT pg_backend_pid()"))
      var pairing = following.pairing
      pairing.slotLimit = .milliseconds(500)
      let refusal = try await #require(throws: MigrationError.self) { try await pairing.take() }
      #expect(refusal.reason.contains(pid), "the culprit is named: \(refusal)")
      try await idle.execute("ROLLBACK")
      await idle.close()
      try await waitUntil("a lag as before", within: .seconds(10)) {
        following.monitor.reading.lag.map { $0 < .milliseconds(100) } ?? false
      }
      try await pgbench.end()
    }
  }

  @Test("Where nobody writes a pair is taken at once")
  func idle() async throws {
    try await Following.run("idlepair") { following in
      let began = ContinuousClock.now
      let taken = try await following.pairing.take()
      #expect(ContinuousClock.now - began < .seconds(2))
      let (source, target) = try await (following.digest(taken.from), following.digest(taken.to))
      #expect(source == target)
      await taken.release()
    }
  }
}

/// A stream in this process, with heartbeats that measure it.
private final class Following: Sendable {
  let databases: FreshDatabases
  let monitor: StreamMonitor
  let source: LibPQ.ConnectionString
  let target: LibPQ.ConnectionString
  private let lags = Mutex<(isMeasured: Bool, samples: [Duration])>((false, []))

  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private init(_ databases: FreshDatabases, _ monitor: StreamMonitor) throws {
    self.databases = databases
    self.monitor = monitor
    source = try LibPQ.ConnectionString(databases.source.text, for: "source")
    target = try LibPQ.ConnectionString(databases.target.text, for: "target")
  }

  var pairing: SnapshotPairing {
    SnapshotPairing(
      direction: .forward, from: source, to: target, monitor: monitor, logger: Self.logger)
  }

  static func run(_ name: String, _ body: (Following) async throws -> Void) async throws {
    try await Scene.run(name) { scene in
      try await Pgbench.initialize(scene.databases.source, scale: 1)
      try await scene.source(
        "CREATE TABLE large (id bigint PRIMARY KEY, t text)",
        "ALTER TABLE pgbench_history ADD id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
      let engine = try await scene.start()
      try await scene.waitUntil("the stream", engine) { $0.phase == .streaming }
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      let string = try LibPQ.ConnectionString(scene.databases.target.text, for: "target")
      let store = try await Session.open(string, end: "target", purpose: "test")
      let migration = try #require(try await StateStore(store).load())
      let progress = try #require(try await StateStore(store).progress())
      await store.close()
      let following = try Following(scene.databases, StreamMonitor(resuming: progress))
      let stream = try following.stream(migration)
      let tasks = [Task { try await stream.follow() }, Task { try await following.beat() }]
      func stop() async {
        for task in tasks { task.cancel() }
        for task in tasks { _ = await task.result }
      }
      try await finally(stop) { try await body(following) }
    }
  }

  private func stream(_ migration: StoredMigration) throws -> StreamSession {
    let (source, target) = (source, target)
    return StreamSession(
      leg: Leg.Addresses(from: source, to: target), slot: try #require(SlotName(migration.slot)),
      publication: migration.publication,
      tables: {
        let from = try await Session.open(source, end: "source", purpose: "test")
        let to = try await Session.open(target, end: "target", purpose: "test")
        return try await closing(from, to) {
          try await MigratedTables(excluded: []).streamed(
            source: from, target: to, noting: self.monitor.messages)
        }
      }, monitor: monitor, logger: Self.logger)
  }

  private func beat() async throws {
    let connection = try await Session.open(source, end: "source", purpose: "test")
    try await closing(connection) {
      while true {
        try await connection.query(
          "SELECT pg_logical_emit_message(true, $1, $2)",
          [MessagePrefix.heartbeat, "\(monitor.nextBeat())"], doing: "beating")
        for _ in 0..<4 {
          try await Task.sleep(for: .milliseconds(5))
          guard let lag = monitor.reading.lag else { continue }
          lags.withLock { if $0.isMeasured { $0.samples.append(lag) } }
        }
      }
    }
  }

  var measuresLag: Bool {
    get { lags.withLock { $0.isMeasured } }
    set { lags.withLock { $0.isMeasured = newValue } }
  }

  /// Of all moments since the last time but the few in which a busy machine did something else.
  func expectSmallLag(_ moment: String) {
    let sorted = lags.withLock { lags in
      defer { lags = (false, []) }
      return lags.samples.sorted()
    }
    #expect(sorted.count > 20, "measured \(moment)")
    let (usual, worst) = (sorted[sorted.count * 9 / 10], sorted[sorted.count - 1])
    #expect(usual < .milliseconds(250), "the lag \(moment), at worst \(worst)")
    #expect(worst < .seconds(2), "the worst lag \(moment)")
  }

  func slots() async throws -> Int {
    let session = try await SQLSession(databases.source)
    let count = try await session.value(
      "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
    await session.close()
    return Int(count ?? "") ?? 0
  }

  func writeLarge(_ number: Int) async throws {
    let session = try await SQLSession(databases.source, settings: ["logical_decoding_work_mem": "64kB"])
    try await session.execute(
      """
      INSERT INTO large SELECT \(number) * 100000 + i, repeat('x', 200) FROM generate_series(1, 20000) i
      """)
    await session.close()
  }

  func digest(_ snapshot: ExportedSnapshot) async throws -> [String] {
    let isSource = snapshot.holder.end == "source"
    let connection = try await Session.open(
      isSource ? source : target, end: snapshot.holder.end, purpose: "test")
    return try await closing(connection) {
      try await snapshot.enter(connection)
      var digests: [String] = []
      for table in ["pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history", "large"] {
        let rows = try await connection.query(
          """
          SELECT pg_catalog.count(*) AS count, pg_catalog.sum(pg_catalog.hashtextextended(t::text, 0)) AS hash
          FROM public.\(table) t
          """, doing: "reading \(table)")
        let row = try #require(rows.first)
        digests.append("\(table) \(try row.text("count")) \(try row.optional("hash") ?? "")")
      }
      return digests
    }
  }
}
