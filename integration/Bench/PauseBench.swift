import Clusters
import Foundation
import Synchronization

/// How long nobody can write: from the last commit that the source accepted to the first that the target
/// accepted, over whole cutovers under load, with reverse replication made ready in each. The writers know
/// both ends and go to the target as soon as the source refuses them, one of them trying again each
/// millisecond.
///
///   REPLICATE_BENCH_ROUNDS  cutovers; 20 for figures that are published, 3 unless given
///   REPLICATE_BENCH_RATE    writes a second, of 8 sessions together; 500 unless given
struct PauseBench {
  private let rounds: Int
  private let rate: Int

  private static let writers = 8
  private static let tables = 50
  /// One of the sessions tries so often that the pause is known to the millisecond. If all did, the cutover
  /// would have no more than a part of the machine.
  private static func retryPause(_ writer: Int) -> Duration { .milliseconds(writer == 0 ? 1 : 20) }
  /// In seconds, what a cutover may take.
  private static let longestMedian = 0.1
  private static let longest = 0.5

  init() {
    let environment = ProcessInfo.processInfo.environment
    rounds = environment["REPLICATE_BENCH_ROUNDS"].flatMap(Int.init) ?? 3
    rate = environment["REPLICATE_BENCH_RATE"].flatMap(Int.init) ?? 500
  }

  func run() async throws {
    let pair = try await ClusterPair.shared
    say("── \(rounds) cutovers, \(rate) writes a second from \(Self.writers) sessions, \(Self.tables) tables")
    var pauses: [Double] = []
    var steps = StepTimes()
    for round in 0..<rounds {
      let pause = try await pair.withFreshDatabases(named: "pause") { databases in
        try await cutOver(databases.source, databases.target, pair.encryptionArguments)
      }
      pauses.append(pause.seen)
      steps.add(pause.timeline)
      say(
        String(
          format: "cutover %2d  %6.1f ms without a writer, %6.1f ms by the report", round + 1,
          pause.seen * 1000, pause.reported * 1000))
    }
    pauses.sort()
    guard let worst = pauses.last else { return }
    let median = pauses[pauses.count / 2]
    say("steps, in the median: \(steps.words)")
    say(String(format: "median %.1f ms, worst %.1f ms", median * 1000, worst * 1000))
    guard median <= Self.longestMedian, worst <= Self.longest else {
      throw HarnessError("longer than \(Self.longestMedian) s in the median, or \(Self.longest) s at worst")
    }
  }

  private func cutOver(
    _ source: ConnectionString, _ target: ConnectionString, _ encryption: [String]
  ) async throws -> Pause {
    try await prepare(source)
    let replicate = ReplicateProcess(source: source, target: target)
    let engine = try await replicate.start(["start"] + encryption)
    let log = WriteLog()
    let writing = Task { try await write(source, target, log) }
    try await engine.waitUntil("ready", within: .seconds(60)) {
      let status = try await replicate.run("status", "--json")
      return status.output.contains("\"ready\":true")
    }
    // So that the cutover need not compare more than what was touched since.
    let verify = try await replicate.run("verify")
    guard verify.exitCode == 0 else { throw HarnessError("verify: \(verify.output)\(verify.errors)") }
    let cutover = try await replicate.run("cutover", "--yes")
    guard cutover.exitCode == 0 else { throw HarnessError("cutover: \(cutover.output)\(cutover.errors)") }
    try await writing.value
    let status = try await replicate.run("status", "--json")
    let finish = try await replicate.run("finish", "--yes")
    guard finish.exitCode == 0 else { throw HarnessError("finish: \(finish.output)\(finish.errors)") }
    _ = try await engine.waitForEnd(within: .seconds(30))
    guard let seen = log.pause else { throw HarnessError("no writer came over") }
    let object = try JSONSerialization.jsonObject(with: Data(status.output.utf8)) as? [String: Any]
    let report = object?["cutover"] as? [String: Any]
    return Pause(
      seen: seen / .seconds(1), reported: report?["write_pause_seconds"] as? Double ?? .nan,
      timeline: (report?["timeline"] as? [[String: Any]] ?? []).compactMap { entry in
        guard let step = entry["step"] as? String else { return nil }
        return (step, entry["seconds"] as? Double ?? .nan)
      })
  }

  private func prepare(_ source: ConnectionString) async throws {
    let session = try await SQLSession(source)
    for table in 0..<Self.tables {
      try await session.execute("CREATE TABLE t\(table) (id bigserial PRIMARY KEY, writer int, n int)")
    }
    await session.close()
  }

  private func write(_ source: ConnectionString, _ target: ConnectionString, _ log: WriteLog) async throws {
    let pause = Duration.seconds(1) * Self.writers / rate
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<Self.writers {
        group.addTask {
          let source = try await SQLSession(source)
          let target = try await SQLSession(target)
          var n = 0
          while true {
            n += 1
            let sql = "INSERT INTO t\((writer * 7 + n) % Self.tables) (writer, n) VALUES (\(writer), \(n))"
            do {
              try await source.execute(sql)
              log.acceptedBySource()
              try await Task.sleep(for: pause)
            } catch SQLFailure.refused("25006", _) {
              try await Self.writeUntilAccepted(sql, by: target, every: Self.retryPause(writer))
              log.acceptedByTarget()
              break
            }
          }
          await source.close()
          await target.close()
        }
      }
      try await group.waitForAll()
    }
  }

  private static func writeUntilAccepted(
    _ sql: String, by target: SQLSession, every pause: Duration
  ) async throws {
    while true {
      do { return try await target.execute(sql) } catch SQLFailure.refused("25006", _) {
        try await Task.sleep(for: pause)
      }
    }
  }
}

private struct Pause: Sendable {
  /// By the writers, in seconds, and by the report.
  var seen: Double
  var reported: Double
  var timeline: [(step: String, seconds: Double)]
}

/// How long each step took, over many cutovers.
private struct StepTimes {
  private var names: [String] = []
  private var seconds: [String: [Double]] = [:]

  mutating func add(_ timeline: [(step: String, seconds: Double)]) {
    for (name, time) in timeline {
      if seconds[name] == nil { names.append(name) }
      seconds[name, default: []].append(time)
    }
  }

  var words: String {
    names.map { name in
      let sorted = seconds[name, default: []].sorted()
      return String(format: "%@ %.0f ms", name, sorted[sorted.count / 2] * 1000)
    }.joined(separator: ", ")
  }
}

/// When each end last, and first, took a write.
private final class WriteLog: Sendable {
  private let times = Mutex<(source: ContinuousClock.Instant?, target: ContinuousClock.Instant?)>((nil, nil))

  func acceptedBySource() { times.withLock { $0.source = .now } }
  func acceptedByTarget() { times.withLock { $0.target = $0.target ?? .now } }

  var pause: Duration? {
    times.withLock { times in
      guard let source = times.source, let target = times.target else { return nil }
      return target - source
    }
  }
}
