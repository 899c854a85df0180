import Clusters
import Foundation

/// How long a whole initial copy takes, method after method, round after round.
///
///   REPLICATE_BENCH_SCALE    1 is a few hundred MB a dataset
///   REPLICATE_BENCH_METHODS  the first words of some methods, by commas; all unless given
///   REPLICATE_BENCH_LOG      set: our own log, to see where the time goes
///   REPLICATE_BENCH_ROUNDS   3 at least, for figures that are published
struct CopyBench {
  let datasets: [CopyDataset]
  private let scale: Double
  private let rounds: Int
  private let methods: [CopyMethod]

  init(names: [String]) throws {
    datasets = try names.map { name in
      guard let dataset = CopyDataset(rawValue: name) else { throw HarnessError("no dataset \(name)") }
      return dataset
    }
    let environment = ProcessInfo.processInfo.environment
    scale = environment["REPLICATE_BENCH_SCALE"].flatMap(Double.init) ?? 1
    rounds = environment["REPLICATE_BENCH_ROUNDS"].flatMap(Int.init) ?? 3
    let hasPgcopydb = (environment["PATH"] ?? "").split(separator: ":").contains {
      FileManager.default.isExecutableFile(atPath: "\($0)/pgcopydb")
    }
    let wanted = environment["REPLICATE_BENCH_METHODS"]?.split(separator: ",")
    methods = CopyMethod.allCases.filter { method in
      (method != .pgcopydb || hasPgcopydb)
        && (wanted?.contains { method.rawValue.hasPrefix($0) } ?? true)
    }
    if !hasPgcopydb { say("pgcopydb is not installed, and left out") }
  }

  /// The same on both ends, and for everybody.
  private static let settings = [
    "shared_buffers": "512MB", "maintenance_work_mem": "256MB", "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_worker_processes": "16", "max_logical_replication_workers": "8", "autovacuum": "off",
  ]

  func run() async throws {
    let source = try await Cluster(named: "source", .init(settings: Self.settings))
    let target = try await Cluster(named: "target", .init(settings: Self.settings))
    try await source.start()
    try await target.start()
    for dataset in datasets.isEmpty ? CopyDataset.allCases : datasets {
      try await measure(dataset, from: source.superuser, to: target.superuser)
    }
    try await source.destroy()
    try await target.destroy()
  }

  private func measure(
    _ dataset: CopyDataset, from source: ConnectionString, to target: ConnectionString
  ) async throws {
    let name = "bench_\(dataset.rawValue)"
    try await execute(["CREATE DATABASE \(name) TEMPLATE template0"], on: source)
    let databases = (source: source.with(["dbname": name]), target: target.with(["dbname": name]))
    try await dataset.load(databases.source, scale: scale)
    let size = try await value("SELECT pg_size_pretty(pg_database_size('\(name)'))", on: source)
    say("\n── \(dataset.rawValue): \(size) with indexes, \(rounds) rounds")
    var results: [CopyMethod: [CopyMethod.Result]] = [:]
    for round in 0..<rounds {
      for method in methods {
        try await execute(
          [
            "DROP DATABASE IF EXISTS \(name) WITH (FORCE)", "CREATE DATABASE \(name) TEMPLATE template0",
            "CHECKPOINT",
          ],
          on: target)
        try await execute(["CHECKPOINT"], on: source)
        let result = try await method.run(source: databases.source, target: databases.target)
        results[method, default: []].append(result)
        say("round \(round + 1)  \(CopyReport.seconds(result.seconds))  \(method.rawValue)")
        if method == .native {
          try await execute(["DROP SUBSCRIPTION bench"], on: databases.target)
          try await execute(["DROP PUBLICATION bench"], on: databases.source)
        }
      }
    }
    CopyReport(results: results).show()
    try await execute(["DROP DATABASE \(name) WITH (FORCE)"], on: target)
    try await execute(["DROP DATABASE \(name) WITH (FORCE)"], on: source)
  }

  private func execute(_ statements: [String], on server: ConnectionString) async throws {
    let session = try await SQLSession(server)
    for statement in statements { try await session.execute(statement) }
    await session.close()
  }

  private func value(_ sql: String, on server: ConnectionString) async throws -> String {
    let session = try await SQLSession(server)
    let value = try await session.value(sql)
    await session.close()
    return value ?? ""
  }
}

/// Medians, and what they are of each other.
struct CopyReport {
  let results: [CopyMethod: [CopyMethod.Result]]

  func show() {
    let floor = median(.floor)
    let best = CopyMethod.allCases.filter(\.isPeer).compactMap(median).min()
    say("  median   of floor  best peer is")
    for method in CopyMethod.allCases {
      guard let median = median(method) else { continue }
      let toFloor = floor.map { Self.ratio(median / $0) } ?? ""
      let toPeer = best.map { Self.ratio($0 / median) + " times ours" } ?? ""
      say(
        "  \(Self.seconds(median))   \(toFloor)     \(method == .replicate ? toPeer : "")\t\(method.rawValue)"
      )
    }
    if let peak = results[.replicate]?.compactMap(\.peakMemoryBytes).max() {
      say("  peak memory of replicate: \(peak >> 20) MB")
    }
  }

  private func median(_ method: CopyMethod) -> Double? {
    guard let seconds = results[method]?.map(\.seconds).sorted(), !seconds.isEmpty else { return nil }
    return seconds[seconds.count / 2]
  }

  static func seconds(_ value: Double) -> String { String(format: "%6.2f s", value) }
  private static func ratio(_ value: Double) -> String { String(format: "%.2f", value) }
}
