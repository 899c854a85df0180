import Foundation
import Synchronization
import UnixSignals

@testable import LibPQ
@testable import MigrationEngine
@testable import replicate

/// A place for a command to run in, whose engine, screen, clock and signals belong to the test.
final class Stage: Sendable {
  let results = Sheet()
  let errors = Sheet()
  private let signaller = Mutex<AsyncStream<UnixSignal>.Continuation?>(nil)
  private let (endings, ender) = AsyncStream.makeStream(of: Int32.self)
  private let seconds = Mutex<Double>(0)

  /// Sends a signal to the command that runs.
  func raise(_ signal: UnixSignal) { signaller.withLock { _ = $0?.yield(signal) } }

  /// No wait of a test lasts longer.
  private static let limit = Duration.seconds(20)

  /// Waits until the command would have ended the process, and gives the exit code; nil when it does not.
  func ending() async -> Int32? {
    // A command that is being stopped is cancelled, and a cancelled task does not wait.
    await Task.detached { [endings] in
      await withTaskGroup(of: Int32?.self) { group in
        group.addTask { await endings.first { _ in true } }
        group.addTask {
          try? await Task.sleep(for: Self.limit)
          return nil
        }
        defer { group.cancelAll() }
        return await group.next() ?? nil
      }
    }.value
  }

  /// Waits until the task that runs this is cancelled; false when it is not.
  static func cancellation() async -> Bool {
    try? await Task.sleep(for: limit)
    return Task.isCancelled
  }

  func advance(by more: Double) { seconds.withLock { $0 += more } }

  /// - Parameter columns: the width of the screen on both outputs; nil for none.
  func surroundings(
    columns: Int? = nil, answer: String? = nil, environment: [String: String] = Stage.ends,
    engine: Engine = Engine()
  ) -> Surroundings {
    let terminal = columns.map { width in Terminal(columns: { width }) }
    var surroundings = Surroundings(
      environment: environment, output: results.output, errors: errors.output, outputTerminal: terminal,
      errorTerminal: terminal, user: "anna@laptop")
    surroundings.engine = engine
    surroundings.interruption.trap = { _ in
      let (signals, signaller) = AsyncStream.makeStream(of: UnixSignal.self)
      self.signaller.withLock { $0 = signaller }
      return signals
    }
    surroundings.interruption.end = { code in self.ender.yield(code) }
    surroundings.now = { Date(timeIntervalSince1970: 1_750_000_000.25) }
    surroundings.uptime = { self.seconds.withLock { $0 } }
    surroundings.pause = { await Task.yield() }
    if let answer { surroundings.ask = { _ in answer } }
    return surroundings
  }

  func writer(columns: Int? = nil, format: LogFormat = .text) -> LogWriter {
    let console = Console(
      lines: errors.output, region: columns.map { width in (errors.output, Terminal(columns: { width })) })
    return LogWriter(console: console, format: format, now: surroundings().now)
  }

  static let ends = [
    "REPLICATE_SOURCE": "host=old.example dbname=app", "REPLICATE_TARGET": "host=new.example dbname=app",
  ]
  static let stamp = "2025-06-15T15:06:40.250Z"
}

/// What was written to an output.
final class Sheet: Sendable {
  private let written = Mutex("")
  private let failure = Mutex<Int32>(0)

  var text: String { written.withLock { $0 } }
  var lines: [String] { text.split(separator: "\n").map(String.init) }

  var output: Output {
    Output { text in
      let failure = self.failure.withLock { $0 }
      if failure == 0 { self.written.withLock { $0 += text } }
      return failure
    }
  }

  func fail(with code: Int32) { failure.withLock { $0 = code } }
}

extension Status {
  /// One with every part filled.
  static func sample(_ phase: Phase = .streaming) -> Status {
    var status = Status(phase: phase)
    status.ready = phase == .streaming
    status.engine.running = true
    status.engine.host = "mover-1"
    status.engine.pid = 4242
    status.engine.heartbeatAgeSeconds = 0.4
    status.source.database = "app"
    status.source.serverVersion = "15.20"
    status.source.tls = true
    status.target.database = "app"
    status.target.serverVersion = "17.6"
    status.target.encryption = EncryptionEvidence(
      status: .verified, provider: .aws, detail: "KMS key alias/app")
    status.copy.tablesTotal = 40
    status.copy.tablesDone = 12
    status.copy.bytesTotal = 1_288_490_189
    status.copy.bytesDone = 642_000_000
    status.copy.rowsDone = 8_123_456
    status.copy.seconds = 80
    status.stream.receivedLSN = "16/B374D848"
    status.stream.appliedLSN = "16/B374D000"
    status.stream.sourceLSN = "16/B374D900"
    status.stream.lagBytes = 2304
    status.stream.lagSeconds = 0.083
    status.stream.transactions = 1
    status.stream.changes = 1_234_567
    status.stream.applyBytesPerSecond = 12_582_912
    status.stream.sourceBytesPerSecond = 1_153_434
    status.stream.catchUpSeconds = 3
    status.stream.predictedPauseSeconds = 0.12
    status.slot.name = "replicate_app"
    status.slot.status = "reserved"
    status.slot.retainedBytes = 16_777_216
    status.slot.safeBytes = 536_870_912
    return status
  }
}

extension Status.Cutover {
  static func sample(_ result: Result?) -> Status.Cutover {
    var cutover = Status.Cutover(step: .switchOver)
    cutover.fenceLSN = "16/B374E000"
    cutover.writePauseSeconds = 0.083
    cutover.result = result
    cutover.timeline = [
      Status.TimelineEntry(step: "arm", startSeconds: 0, seconds: 0.412, detail: "40 tables"),
      Status.TimelineEntry(step: "fence", startSeconds: 0.412, seconds: 0.0004, detail: ""),
      Status.TimelineEntry(step: "drain", startSeconds: 0.4124, seconds: 0.071, detail: "marker applied"),
    ]
    return cutover
  }
}
