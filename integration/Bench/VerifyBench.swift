import Clusters
import Foundation
import LibPQ
import Logging
import MigrationEngine

/// How long it takes to know that two ends are equal, method after method, round after round.
///
///   REPLICATE_BENCH_SCALE    1 is a few hundred MB a dataset
///   REPLICATE_BENCH_ROUNDS   3 at least, for figures that are published
struct VerifyBench {
  private enum Method: String, CaseIterable {
    case floor = "floor: SELECT count(*) of both ends"
    case pgcopydb = "pgcopydb compare data"
    case replicate = "replicate: digests, 2 jobs"
  }

  private let datasets: [CopyDataset]
  private let scale: Double
  private let rounds: Int

  init(names: [String]) throws {
    datasets = try names.map { name in
      guard let dataset = CopyDataset(rawValue: name) else { throw HarnessError("no dataset \(name)") }
      return dataset
    }
    let environment = ProcessInfo.processInfo.environment
    scale = environment["REPLICATE_BENCH_SCALE"].flatMap(Double.init) ?? 1
    rounds = environment["REPLICATE_BENCH_ROUNDS"].flatMap(Int.init) ?? 3
  }

  func run() async throws {
    var methods = Method.allCases
    if try await !peerCompares() {
      say("pgcopydb is not installed, or too old to compare, and left out")
      methods.removeAll { $0 == .pgcopydb }
    }
    let settings = ["shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off"]
    let source = try await Cluster(named: "source", .init(settings: settings))
    let target = try await Cluster(named: "target", .init(settings: settings))
    try await source.start()
    try await target.start()
    for dataset in datasets.isEmpty ? CopyDataset.allCases : datasets {
      try await measure(dataset, methods, source.superuser, target.superuser)
    }
    try await source.destroy()
    try await target.destroy()
  }

  private func peerCompares() async throws -> Bool {
    let help = try await Command.run(
      ["bash", "-c", "pgcopydb compare data --help"], environment: ProcessInfo.processInfo.environment)
    return help.exitCode == 0
  }

  private func measure(
    _ dataset: CopyDataset, _ methods: [Method],
    _ source: Clusters.ConnectionString, _ target: Clusters.ConnectionString
  ) async throws {
    let name = "bench_\(dataset.rawValue)"
    for server in [source, target] {
      let session = try await SQLSession(server)
      try await session.execute("CREATE DATABASE \(name) TEMPLATE template0")
      await session.close()
    }
    let ends = (source: source.with(["dbname": name]), target: target.with(["dbname": name]))
    try await dataset.load(ends.source, scale: scale)
    try await shell(ends.source, ends.target, "pg_dump -Fc -Z0 \"$SRC\" | pg_restore -d \"$DST\"")
    try await shell(ends.source, ends.target, "psql -qX \"$DST\" -c 'VACUUM (ANALYZE)'")
    say("\n── \(dataset.rawValue), \(rounds) rounds")
    var results: [Method: [Double]] = [:]
    for round in 0..<rounds {
      for method in methods {
        let began = ContinuousClock.now
        try await run(method, ends.source, ends.target)
        let seconds = (ContinuousClock.now - began) / .seconds(1)
        results[method, default: []].append(seconds)
        say("round \(round + 1)  \(CopyReport.seconds(seconds))  \(method.rawValue)")
      }
    }
    show(results)
    for server in [source, target] {
      let session = try await SQLSession(server)
      try await session.execute("DROP DATABASE \(name) WITH (FORCE)")
      await session.close()
    }
  }

  private func show(_ results: [Method: [Double]]) {
    func median(_ method: Method) -> Double? {
      results[method].map { $0.sorted()[$0.count / 2] }
    }
    for method in Method.allCases {
      guard let seconds = median(method), let floor = median(.floor) else { continue }
      let ratio = String(format: "%.2f", seconds / floor)
      say(
        "  \(CopyReport.seconds(seconds))  \(ratio) of floor  \(method.rawValue)"
      )
    }
    if let ours = median(.replicate), let peer = median(.pgcopydb) {
      say("  pgcopydb takes \(String(format: "%.2f", peer / ours)) times ours")
    }
  }

  private func run(
    _ method: Method, _ source: Clusters.ConnectionString, _ target: Clusters.ConnectionString
  ) async throws {
    switch method {
    case .floor:
      // Without VACUUM's visibility map no index alone could answer; both ends at once, two tables at a time.
      try await shell(
        source, target,
        """
        settings="SET enable_indexonlyscan = off; SET max_parallel_workers_per_gather = 0;"
        count() {
          psql -qAtX "$1" -c "SELECT oid::regclass FROM pg_class WHERE relkind = 'r'
            AND relnamespace = 'public'::regnamespace ORDER BY pg_table_size(oid) DESC" |
          sed "s/.*/$settings SELECT count(*) FROM ONLY &;/" |
          psql -qAtX "$1" > /dev/null
        }
        count "$SRC" & count "$DST"; wait
        """)
    case .pgcopydb:
      try await shell(
        source, target,
        """
        pgcopydb compare data --source "$SRC" --target "$DST" --dir "$DIR/pgcopydb" --jobs 2
        """)
    case .replicate:
      let verification = try await verification(source, target)
      let report = try await verification.compare()
      guard !report.hasDifferences, !report.tables.isEmpty else {
        throw HarnessError("equal ends are said to differ: \(report.tables.filter { $0.verdict != .equal })")
      }
    }
  }

  private func verification(
    _ source: Clusters.ConnectionString, _ target: Clusters.ConnectionString
  ) async throws -> Verification {
    let ends = (
      source: try LibPQ.ConnectionString(source.text, for: "source"),
      target: try LibPQ.ConnectionString(target.text, for: "target")
    )
    let connection = try await Session.open(ends.source, end: "source", purpose: "bench")
    let catalog = try await closing(connection) { try await Catalog.read(from: connection) }
    var options = Verification.Options(scope: .settled)
    options.jobs = 2
    options.comparesSchema = false
    return Verification(
      source: Verification.Side(ends.source, end: "source"),
      target: Verification.Side(ends.target, end: "target"),
      relations: catalog.relations, options: options, logger: Logger(label: "bench"))
  }

  private func shell(
    _ source: Clusters.ConnectionString, _ target: Clusters.ConnectionString, _ script: String
  ) async throws {
    let bin = try URL(filePath: PostgresPrograms.path("psql")).deletingLastPathComponent().path
    let run = try await Command.run(
      ["bash", "-c", "set -euo pipefail; \(script)"],
      environment: [
        "SRC": source.text, "DST": target.text, "DIR": try await freshDirectory(),
        "PATH": "\(bin):\(ProcessInfo.processInfo.environment["PATH"] ?? "")",
      ], limit: .seconds(900))
    guard run.exitCode == 0 else { throw HarnessError("\(run.errors.suffix(2000))") }
  }
}
