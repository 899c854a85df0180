import Clusters
import Foundation

/// How long after its commit on the source a transaction is committed on the target, under a steady load far
/// below what the machine could do. Both servers stamp their commits, on one machine by one clock. (A native
/// subscription cannot be measured so: it stamps with the source's time.)
///
/// With `verify`, both ends are compared again and again meanwhile, with a table of two million rows.
///
///   REPLICATE_BENCH_SECONDS  how long the load lasts; 30 unless given
///   REPLICATE_BENCH_RATE     transactions a second, of 8 sessions together; 500 unless given
struct LagBench {
  private let seconds: Int
  private let rate: Int

  /// Whether both ends are compared meanwhile.
  private let isVerified: Bool

  init(isVerified: Bool) {
    self.isVerified = isVerified
    let environment = ProcessInfo.processInfo.environment
    seconds = environment["REPLICATE_BENCH_SECONDS"].flatMap(Int.init) ?? 30
    rate = environment["REPLICATE_BENCH_RATE"].flatMap(Int.init) ?? 500
  }

  private static let settings = ["track_commit_timestamp": "on", "shared_buffers": "512MB"]

  private static let tables = """
    CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL) \\;
    INSERT INTO account SELECT n, 0 FROM generate_series(1, 10000) n \\;
    CREATE TABLE journal (id bigserial PRIMARY KEY, account int, at timestamptz DEFAULT now(), note text)
    """

  private static let quiet = """
    CREATE TABLE quiet (id int PRIMARY KEY, a int, b text) \\;
    INSERT INTO quiet SELECT n, n % 10, md5(n::text) FROM generate_series(1, 2000000) n
    """

  private static let transaction = """
    \\set account random(1, 10000)
    BEGIN;
    UPDATE account SET balance = balance + 1 WHERE id = :account;
    INSERT INTO journal (account, note) VALUES (:account, md5(:account::text));
    COMMIT;
    """

  func run() async throws {
    let source = try await Cluster(named: "source", .init(settings: Self.settings))
    let target = try await Cluster(named: "target", .init(settings: Self.settings))
    try await source.start()
    try await target.start()
    say("── \(rate) transactions a second from 8 sessions for \(seconds) s")
    for server in [source.superuser, target.superuser] {
      try await sql(["CREATE DATABASE lag TEMPLATE template0"], on: server)
    }
    try await measure(source.superuser.with(["dbname": "lag"]), target.superuser.with(["dbname": "lag"]))
    try await source.destroy()
    try await target.destroy()
  }

  private func measure(_ source: ConnectionString, _ target: ConnectionString) async throws {
    try await sql([Self.tables], on: source)
    if isVerified { try await sql([Self.quiet], on: source) }
    let replicate = ReplicateProcess(source: source, target: target)
    let engine = try await replicate.start("start", "--allow-unencrypted-target")
    try await engine.waitUntil("streaming", within: .seconds(120)) {
      engine.errors.contains("phase streaming")
    }
    let before = engine.processorSeconds ?? 0
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await load(source) }
      if isVerified { group.addTask { try await verify(replicate) } }
      try await group.next()
      group.cancelAll()
    }
    let missed = engine.errors.split(separator: "\n").filter { $0.contains("had passed the snapshot") }.count
    if missed > 0 { say("  \(missed) snapshots were too late and taken again") }
    let used = (engine.processorSeconds ?? 0) - before
    try await report(source, target)
    say(String(format: "  of one processor: %.1f %%", used / Double(seconds) * 100))
    engine.terminate()
    _ = try await engine.waitForEnd(within: .seconds(30))
  }

  /// Again and again, until it is cancelled.
  private func verify(_ replicate: ReplicateProcess) async throws {
    var seconds: [Double] = []
    while !Task.isCancelled {
      let began = ContinuousClock.now
      let process = try await replicate.start("verify")
      do {
        guard try await process.waitForEnd(within: .seconds(120)) == 0 else {
          throw HarnessError("the ends are said to differ: \(process.output)\(process.errors)")
        }
      } catch is CancellationError {
        process.interrupt()
      }
      seconds.append((ContinuousClock.now - began) / .seconds(1))
    }
    say(String(format: "%d comparisons meanwhile, of up to %.1f s", seconds.count, seconds.max() ?? 0))
  }

  private func load(_ source: ConnectionString) async throws {
    let script = "\(try await freshDirectory())/transaction.sql"
    try Self.transaction.write(toFile: script, atomically: true, encoding: .utf8)
    try await Command.check(
      [
        try PostgresPrograms.path("pgbench"), "-n", "-f", script, "-c", "8", "-j", "2", "-R", "\(rate)", "-T",
        "\(seconds)", source.text,
      ], limit: .seconds(seconds + 60))
  }

  private func report(_ source: ConnectionString, _ target: ConnectionString) async throws {
    let commits = "SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM journal"
    let sourceSession = try await SQLSession(source)
    let targetSession = try await SQLSession(target)
    let count = try await sourceSession.value("SELECT count(*) FROM journal")
    try await waitUntil("all transactions", within: .seconds(60)) {
      try await targetSession.value("SELECT count(*) FROM journal") == count
    }
    var committed: [String: Double] = [:]
    for row in try await sourceSession.rows(commits) {
      if let id = row[0], let at = row[1].flatMap(Double.init) { committed[id] = at }
    }
    var lags: [Double] = []
    var stalls = Stalls()
    for row in try await targetSession.rows(commits) {
      if let id = row[0], let at = row[1].flatMap(Double.init), let from = committed[id] {
        lags.append(at - from)
        stalls.add(at - from, at: from)
      }
    }
    await sourceSession.close()
    await targetSession.close()
    guard !lags.isEmpty else { throw HarnessError("no transaction was measured") }
    lags.sort()
    func milliseconds(_ share: Double) -> Double { lags[Int(Double(lags.count - 1) * share)] * 1000 }
    say(
      String(
        format: "%d commits: median %.1f ms, 99th percentile %.1f ms, longest %.1f ms after the source",
        lags.count, milliseconds(0.5), milliseconds(0.99), milliseconds(1)))
    if isVerified { say("  \(stalls.words)") }
  }

  /// The times when commits came later than they should, each by its longest.
  private struct Stalls {
    private var late: [(at: Double, lag: Double)] = []

    /// In seconds, what a comparison may cost.
    private static let limit = 0.2

    mutating func add(_ lag: Double, at time: Double) {
      if lag > Self.limit / 2 { late.append((time, lag)) }
    }

    var words: String {
      var longest: [Double] = []
      var last = -Double.infinity
      for (at, lag) in late.sorted(by: { $0.at < $1.at }) {
        if at - last < 0.5, let known = longest.last {
          longest[longest.count - 1] = max(known, lag)
        } else {
          longest.append(lag)
        }
        last = at
      }
      return "\(longest.count) times over \(Int(Self.limit * 500)) ms: "
        + longest.map { "\(Int($0 * 1000))" }.joined(separator: ", ")
    }
  }

  private func sql(_ statements: [String], on server: ConnectionString) async throws {
    let session = try await SQLSession(server)
    for statement in statements { try await session.execute(statement) }
    await session.close()
  }
}
