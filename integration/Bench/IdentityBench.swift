import Clusters
import Foundation

/// What a table without a primary key costs whose changes come with whole old rows: how long 20,000 UPDATEs
/// in one transaction take to be applied, against the same on a table with a key, in turns.
///
///   REPLICATE_BENCH_ROUNDS  3 unless given
struct IdentityBench {
  private let rounds = ProcessInfo.processInfo.environment["REPLICATE_BENCH_ROUNDS"].flatMap(Int.init) ?? 3

  /// What it may cost in times of the other.
  private static let limit = 3.0

  private static let rows = 200_000
  private static let updates = 20_000

  private static let tables = """
    CREATE TABLE keyed (id int, u int PRIMARY KEY, v int, t text, d timestamptz) \\;
    CREATE TABLE full_unique (id int, u int NOT NULL UNIQUE, v int, t text, d timestamptz) \\;
    CREATE TABLE full_plain (id int, u int, v int, t text, d timestamptz) \\;
    ALTER TABLE full_unique REPLICA IDENTITY FULL \\; ALTER TABLE full_plain REPLICA IDENTITY FULL \\;
    CREATE INDEX ON full_plain (u)
    """

  func run() async throws {
    let source = try await Cluster(named: "source")
    let target = try await Cluster(named: "target")
    try await source.start()
    try await target.start()
    let (from, to) = (source.superuser, target.superuser)
    let session = try await SQLSession(from)
    try await session.execute(Self.tables)
    for table in ["keyed", "full_unique", "full_plain"] {
      try await session.execute(
        """
        INSERT INTO \(table) SELECT n, n, 0, md5(n::text), timestamptz '2024-01-01' + n * interval '1 s'
        FROM generate_series(1, \(Self.rows)) n
        """)
    }
    let engine = try await ReplicateProcess(source: from, target: to).start(
      "start", "--allow-unencrypted-target")
    try await engine.waitUntil("streaming", within: .seconds(300)) {
      engine.errors.contains("phase streaming")
    }
    var seconds: [String: [Double]] = [:]
    for round in 1...rounds {
      for table in ["keyed", "full_unique", "full_plain"] {
        seconds[table, default: []].append(try await measure(table, round, session, to, engine))
      }
    }
    await session.close()
    engine.terminate()
    _ = try await engine.waitForEnd(within: .seconds(60))
    try await source.destroy()
    try await target.destroy()
    try report(seconds)
  }

  private func measure(
    _ table: String, _ round: Int, _ source: SQLSession, _ target: ConnectionString,
    _ engine: BackgroundProcess
  ) async throws -> Double {
    let looker = try await SQLSession(target)
    // Row by row, as an application does; committed once.
    try await source.execute(
      """
      DO $$ BEGIN FOR n IN 1..\(Self.updates) LOOP
        UPDATE \(table) SET v = \(round), t = md5(t) WHERE u = n * 10;
      END LOOP; END $$
      """)
    let began = ContinuousClock.now
    try await engine.waitUntil("the changes", within: .seconds(600)) {
      try await looker.value("SELECT v FROM \(table) WHERE u = 10") == "\(round)"
    }
    let seconds = (ContinuousClock.now - began) / .seconds(1)
    await looker.close()
    say(String(format: "round %d  %6.2f s  %@", round, seconds, table))
    return seconds
  }

  private func report(_ seconds: [String: [Double]]) throws {
    func median(_ table: String) -> Double {
      let sorted = seconds[table, default: []].sorted()
      return sorted.isEmpty ? .nan : sorted[sorted.count / 2]
    }
    for table in ["full_unique", "full_plain"] {
      let ratio = median(table) / median("keyed")
      say(String(format: "  %@ takes %.2f times what a primary key takes", table, ratio))
      guard table != "full_unique" || ratio <= Self.limit else {
        throw HarnessError("\(Self.limit) times were promised")
      }
    }
  }
}
