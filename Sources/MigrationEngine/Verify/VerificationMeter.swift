import Synchronization

/// Counts what has been read, and reports it a few times a second.
final class VerificationMeter: Sendable {
  private struct State {
    var progress = VerificationProgress()
    var reportedAt: ContinuousClock.Instant?
  }

  private static let interval = Duration.milliseconds(200)

  private let state = Mutex(State())
  private let began = ContinuousClock.now
  private let report: @Sendable (VerificationProgress) -> Void

  init(_ report: @escaping @Sendable (VerificationProgress) -> Void) { self.report = report }

  var seconds: Double { (ContinuousClock.now - began) / .seconds(1) }

  func begin(tables: Int, bytes: Int64) {
    change(isReported: true) {
      $0.tablesTotal = tables
      $0.bytesTotal = bytes
    }
  }

  func add(bytes: Int64, rows: Int64) {
    change {
      $0.bytesDone += bytes
      $0.rowsDone += rows
    }
  }

  func finishTable() { change { $0.tablesDone += 1 } }

  func finish() { change(isReported: true) { _ in } }

  private func change(isReported: Bool = false, _ body: (inout VerificationProgress) -> Void) {
    let seconds = seconds
    let due: VerificationProgress? = state.withLock { state in
      body(&state.progress)
      state.progress.seconds = seconds
      let now = ContinuousClock.now
      if !isReported, let reportedAt = state.reportedAt, now - reportedAt < Self.interval { return nil }
      state.reportedAt = now
      return state.progress
    }
    if let due { report(due) }
  }
}
