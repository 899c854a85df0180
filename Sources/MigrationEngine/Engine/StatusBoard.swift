import Foundation
import LibPQ
import LogicalReplication
import Synchronization

/// Combines what the stages report while they work into one status.
final class StatusBoard: Sendable {
  private struct State {
    var status: Status
    var stored = CopyProgress.Counts()
    var copy: CopyProgress?
    var copyStarted: ContinuousClock.Instant?
    var stream: StreamMonitor?
    var monitor = CatchUpMonitor()
    var needsSource = true
    /// Locks of others that the engine waits for, by end.
    var locks: [String: String] = [:]
    /// Why the previous run ended, until this one has got further.
    var hindrance: (words: String, from: ContinuousClock.Instant, appliedLSN: LSN?)?

    /// What the engine waits for, apart from the stream's own waits.
    var waits: String? {
      let all = locks.sorted { $0.key < $1.key }.map(\.value) + [hindrance?.words].compactMap { $0 }
      return all.isEmpty ? nil : all.joined(separator: "\n")
    }

    mutating func forgetHindrance() {
      guard let before = hindrance else { return }
      let applied = stream?.reading.feedback.appliedLSN
      if let applied, before.appliedLSN == nil { hindrance?.appliedLSN = applied }
      let isPast = before.appliedLSN.map { start in applied.map { $0 > start } ?? false } ?? false
      if isPast || ContinuousClock.now - before.from > StatusBoard.hindrancePatience { hindrance = nil }
    }
  }

  /// What hindered the previous run shows again within this time, or is over.
  private static let hindrancePatience = Duration.seconds(10)

  private let state: Mutex<State>
  /// Outlives the board.
  let unstored: PendingCutoverResult

  /// - Parameter hindrance: why the previous run ended, in words.
  init(_ status: Status, unstored: PendingCutoverResult, hindrance: String? = nil) {
    var first = State(status: status)
    first.hindrance = hindrance.map { ($0, .now, nil) }
    state = Mutex(first)
    self.unstored = unstored
  }

  /// Changes what no stage measures: phase, ends, encryption, slot, cutover.
  func update(_ change: @Sendable (inout Status) -> Void) { state.withLock { change(&$0.status) } }

  /// False once the target has everything and knows that the source is sealed: the rest is done without it.
  var needsSource: Bool { state.withLock { $0.needsSource } }
  func endNeedOfSource() { state.withLock { $0.needsSource = false } }

  /// A copy begins; `relations` say what is on the target already.
  func beginCopy(_ relations: [StoredRelation], secondsSoFar: Double, _ progress: CopyProgress) {
    let done = relations.filter { $0.snapshotLSN != nil }
    state.withLock { state in
      state.stored = CopyProgress.Counts(
        tables: done.count, bytes: done.reduce(0) { $0 + $1.bytes }, rows: done.reduce(0) { $0 + $1.rows })
      state.copy = progress
      state.copyStarted = .now
      state.status.copy.tablesTotal = relations.count
      // A finished table counts with its actual size; the catalog's figure is the heap's size.
      state.status.copy.bytesTotal = relations.reduce(0) {
        $0 + ($1.snapshotLSN == nil ? $1.bytesTotal : $1.bytes)
      }
      state.status.copy.seconds = secondsSoFar
    }
  }

  /// The copy has ended, in this run or in an earlier one.
  func endCopy(_ relations: [StoredRelation], seconds: Double) {
    state.withLock { state in
      state.copy = nil
      state.copyStarted = nil
      state.status.copy = Status.Copy()
      state.status.copy.tablesTotal = relations.count
      state.status.copy.tablesDone = relations.count { $0.snapshotLSN != nil }
      state.status.copy.bytesDone = relations.reduce(0) { $0 + $1.bytes }
      state.status.copy.bytesTotal = state.status.copy.bytesDone
      state.status.copy.rowsDone = relations.reduce(0) { $0 + $1.rows }
      state.status.copy.seconds = seconds
    }
  }

  func beginStream(_ stream: StreamMonitor) {
    state.withLock { state in
      state.stream = stream
      state.monitor = CatchUpMonitor()
    }
  }

  var stream: StreamMonitor? { state.withLock { $0.stream } }

  /// The source cannot be observed: it admits no new session.
  /// - Returns: whether that is news.
  func loses(because reason: String, _ end: String) -> Bool {
    stream?.isUnseen("the \(end) admits no new session; retrying: \(reason)") ?? false
  }
  func sees() { _ = stream?.isUnseen(nil) }

  /// The engine waits for somebody's lock on an end; nil: for none.
  /// - Returns: whether that is news.
  func waits(for lock: String?, at end: String) -> Bool {
    state.withLock { state in
      defer { state.locks[end] = lock }
      return state.locks[end] != lock
    }
  }

  /// The source stood at `sourceLSN` a moment ago.
  func sample(sourceLSN: LSN) {
    state.withLock { state in
      guard let reading = state.stream?.reading else { return }
      state.status.stream.sourceLSN = sourceLSN.description
      state.monitor.add(
        CatchUpMonitor.Sample(
          at: .now, sourceLSN: sourceLSN, targetLSN: reading.feedback.confirmableLSN, lag: reading.lag))
    }
  }

  var catchUp: CatchUpMonitor { state.withLock { $0.monitor } }

  /// The status of this moment.
  var status: Status {
    state.withLock { state in
      var status = state.status
      if let copy = state.copy?.current, let started = state.copyStarted {
        status.copy.tablesDone = state.stored.tables + copy.tables
        status.copy.bytesDone = state.stored.bytes + copy.bytes
        status.copy.bytesTotal = max(status.copy.bytesTotal, status.copy.bytesDone)
        status.copy.rowsDone = state.stored.rows + copy.rows
        status.copy.seconds += (ContinuousClock.now - started) / .seconds(1)
      }
      if let stream = state.stream?.reading { Self.fill(&status, stream, state.monitor) }
      state.forgetHindrance()
      if let waits = state.waits {
        status.stream.waitsFor = [status.stream.waitsFor, waits].compactMap { $0 }.joined(separator: "\n")
        status.ready = false
      }
      return status
    }
  }

  private static func fill(_ status: inout Status, _ stream: StreamMonitor.Reading, _ monitor: CatchUpMonitor)
  {
    let reading = monitor.reading
    status.stream.receivedLSN = stream.feedback.receivedLSN.description
    status.stream.appliedLSN = stream.feedback.appliedLSN.description
    status.stream.transactions = stream.transactions
    status.stream.changes = stream.changes
    status.stream.lagBytes = reading.lagBytes
    status.stream.lagSeconds = reading.lagSeconds
    status.stream.applyBytesPerSecond = reading.applyBytesPerSecond
    status.stream.sourceBytesPerSecond = reading.sourceBytesPerSecond
    status.stream.catchUpSeconds = reading.catchUpSeconds
    status.stream.predictedPauseSeconds = reading.predictedPauseSeconds
    let limit = CutoverRequest(requestedBy: "").maxPauseSeconds
    status.stream.waitsFor = stream.waitsFor
    status.ready =
      [.streaming, .reverse].contains(status.phase) && stream.waitsFor == nil
      && monitor.isReady(within: limit)
  }
}

extension Status.Engine {
  static var thisProcess: Status.Engine {
    Status.Engine(
      running: true, host: ProcessInfo.processInfo.hostName,
      pid: Int(ProcessInfo.processInfo.processIdentifier))
  }
}
