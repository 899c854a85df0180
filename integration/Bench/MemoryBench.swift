import Clusters
import Foundation

/// What memory the engine takes at most, with its default options, on a database of everything: while it is
/// copied, while a backlog is streamed, and after it; and what `status` costs.
///
///   REPLICATE_BENCH_SCALE  1 is about a gigabyte
///   REPLICATE_BENCH_LIMIT  in MB; 100 unless given. More than that is a failure.
struct MemoryBench {
  private let scale: Double
  private let limit: Int

  init() {
    let environment = ProcessInfo.processInfo.environment
    scale = environment["REPLICATE_BENCH_SCALE"].flatMap(Double.init) ?? 1
    limit = environment["REPLICATE_BENCH_LIMIT"].flatMap(Int.init) ?? 100
  }

  private static let settings = [
    "shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
  ]

  /// Rows of every size, in transactions of every size.
  private static let changes = [
    "UPDATE wide SET c = md5(c), e = e || '{\"new\": 1}' WHERE id % 3 = 0",
    "UPDATE toast SET body = body || 'x' WHERE id % 4 = 0", "DELETE FROM pgbench_accounts WHERE aid % 7 = 0",
    "INSERT INTO wide SELECT id + 10000000, a, b, c, d, e, f, g, h, i, j, k FROM wide WHERE id % 5 = 0",
    "UPDATE toast SET id = id + 1000000 WHERE id % 50 = 1",
    """
    DO $$ BEGIN FOR n IN 1..20000 LOOP
      UPDATE pgbench_branches SET bbalance = n WHERE bid = 1; COMMIT;
    END LOOP; END $$
    """,
  ]

  func run() async throws {
    let source = try await Cluster(named: "source", .init(settings: Self.settings))
    let target = try await Cluster(named: "target", .init(settings: Self.settings))
    try await source.start()
    try await target.start()
    for server in [source.superuser, target.superuser] {
      try await sql(["CREATE DATABASE memory TEMPLATE template0"], on: server)
    }
    let ends = (source.superuser.with(["dbname": "memory"]), target.superuser.with(["dbname": "memory"]))
    for (dataset, share) in [(CopyDataset.pgbench, 0.6), (.wide, 0.6), (.toast, 1.2), (.small, 0.3)] {
      try await dataset.load(ends.0, scale: scale * share)
    }
    let peak = try await measure(ends.0, ends.1)
    try await source.destroy()
    try await target.destroy()
    guard peak <= limit << 20 else {
      throw HarnessError("at most \(limit) MB were promised, and \(peak >> 20) MB were taken")
    }
  }

  private func measure(_ source: ConnectionString, _ target: ConnectionString) async throws -> Int {
    let size = try await value("SELECT pg_size_pretty(pg_database_size('memory'))", source)
    say("── \(size ?? "") with indexes")
    let replicate = ReplicateProcess(source: source, target: target)
    let began = ContinuousClock.now
    let engine = try await replicate.start(
      "start", "--allow-unencrypted-target", "--replica-identity", "full")
    func note(_ words: String) { say("  \(words): \((engine.peakMemoryBytes ?? 0) >> 20) MB at most") }
    try await engine.waitUntil("the end of the copy", within: .seconds(900)) {
      engine.errors.contains("phase index")
    }
    note("copied in \(Int((ContinuousClock.now - began) / .seconds(1))) s")
    try await engine.waitUntil("streaming", within: .seconds(900)) {
      engine.errors.contains("phase streaming")
    }
    note("indexes and keys")
    let session = try await SQLSession(source)
    for change in Self.changes {
      try await session.execute(change)
      let lsn = try await session.value("SELECT pg_current_wal_lsn()") ?? ""
      try await engine.waitUntil("the changes", within: .seconds(900), every: .milliseconds(200)) {
        try await value("SELECT applied_lsn >= '\(lsn)'::pg_lsn FROM replicate.progress", target) == "t"
      }
      note("\(change.split(separator: "\n").first.map { $0.prefix(60) } ?? "")")
    }
    await session.close()
    try await tellStatus(replicate)
    let verify = try await replicate.run("verify", limit: .seconds(600))
    guard verify.exitCode == 0 else { throw HarnessError("verify: \(verify.output)\(verify.errors)") }
    note("compared")
    let peak = engine.peakMemoryBytes ?? .max
    engine.terminate()
    _ = try await engine.waitForEnd(within: .seconds(60))
    return peak
  }

  /// One after the other, as a script does that waits for something.
  private func tellStatus(_ replicate: ReplicateProcess) async throws {
    let count = 20
    let began = ContinuousClock.now
    for _ in 1...count { _ = try await replicate.run("status", "--json") }
    let seconds = (ContinuousClock.now - began) / .seconds(1)
    say(String(format: "  status: %.0f ms each", seconds / Double(count) * 1000))
  }

  private func sql(_ statements: [String], on server: ConnectionString) async throws {
    let session = try await SQLSession(server)
    for statement in statements { try await session.execute(statement) }
    await session.close()
  }

  private func value(_ sql: String, _ server: ConnectionString) async throws -> String? {
    let session = try await SQLSession(server)
    let value = try await session.value(sql)
    await session.close()
    return value
  }
}
