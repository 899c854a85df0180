import Clusters
import Foundation

/// How long a backlog takes to be on the target: everybody reads the same WAL, from copies of one slot, into
/// copies of one target.
///
///   REPLICATE_BENCH_SCALE    1 is 60,000 transactions, or a million rows
///   REPLICATE_BENCH_ROUNDS   3 at least, for figures that are published
///   REPLICATE_BENCH_METHODS  the first words of some methods, by commas; all unless given
struct ApplyBench {
  private let datasets: [ApplyDataset]
  private let scale: Double
  private let rounds: Int
  private let methods: [ApplyMethod]

  init(names: [String]) throws {
    datasets = try names.map { name in
      guard let dataset = ApplyDataset(rawValue: name) else { throw HarnessError("no dataset \(name)") }
      return dataset
    }
    let environment = ProcessInfo.processInfo.environment
    scale = environment["REPLICATE_BENCH_SCALE"].flatMap(Double.init) ?? 1
    rounds = environment["REPLICATE_BENCH_ROUNDS"].flatMap(Int.init) ?? 3
    let wanted = environment["REPLICATE_BENCH_METHODS"]?.split(separator: ",")
    methods = ApplyMethod.allCases.filter { method in
      wanted?.contains { method.rawValue.hasPrefix($0) } ?? true
    }
  }

  /// The same on both ends, and for everybody.
  private static let settings = [
    "shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
    "max_worker_processes": "16", "max_logical_replication_workers": "8", "autovacuum": "off",
    "max_replication_slots": "10", "max_wal_senders": "10",
  ]

  func run() async throws {
    let source = try await Cluster(named: "source", .init(settings: Self.settings))
    let target = try await Cluster(named: "target", .init(settings: Self.settings))
    try await source.start()
    try await target.start()
    for dataset in datasets.isEmpty ? ApplyDataset.allCases : datasets {
      let backlog = Backlog(
        dataset: dataset, scale: scale, sourceServer: source.superuser, targetServer: target.superuser)
      try await backlog.make()
      say("\n── \(dataset.rawValue): \(try await backlog.size()) of WAL, \(rounds) rounds")
      var results: [ApplyMethod: [ApplyMethod.Result]] = [:]
      for round in 0..<rounds {
        for method in methods {
          let result = try await method.run(backlog)
          results[method, default: []].append(result)
          say("round \(round + 1)  \(CopyReport.seconds(result.seconds))  \(method.rawValue)")
        }
      }
      ApplyReport(results: results).show()
      try await backlog.drop()
    }
    try await source.destroy()
    try await target.destroy()
  }
}

/// Medians, and what they are of each other.
struct ApplyReport {
  let results: [ApplyMethod: [ApplyMethod.Result]]

  func show() {
    let floor = [ApplyMethod.discard, .discardStreaming].compactMap(median).min()
    let native = [ApplyMethod.native, .nativeStreaming].compactMap(median).min()
    say("  median   of floor  best native is")
    for method in ApplyMethod.allCases {
      guard let median = median(method) else { continue }
      let toFloor = floor.map { String(format: "%.2f", median / $0) } ?? ""
      let toNative = native.map { String(format: "%.2f times ours", $0 / median) } ?? ""
      say(
        "  \(CopyReport.seconds(median))   \(toFloor)     \(method == .replicate ? toNative : "")\t"
          + method.rawValue)
    }
    guard let ours = results[.replicate] else { return }
    if let peak = ours.compactMap(\.peakMemoryBytes).max() {
      say("  peak memory of replicate: \(peak >> 20) MB")
    }
    let cpu = ours.compactMap(\.processorSeconds).sorted()
    if !cpu.isEmpty { say("  processor time of replicate: \(CopyReport.seconds(cpu[cpu.count / 2]))") }
    for method in ApplyMethod.allCases {
      guard let seconds = results[method]?.compactMap(\.walsenderSeconds).min() else { continue }
      say("  processor time of the source's walsender: \(CopyReport.seconds(seconds)), \(method.rawValue)")
    }
  }

  private func median(_ method: ApplyMethod) -> Double? {
    guard let seconds = results[method]?.map(\.seconds).sorted(), !seconds.isEmpty else { return nil }
    return seconds[seconds.count / 2]
  }
}
