import Logging
import MigrationEngine
import Synchronization

/// The progress of a comparison on stderr: rows drawn in place on a screen, elsewhere a line every few
/// seconds.
final class VerificationFollower: Sendable {
  private struct State {
    var pace = CopyPace()
    var shownAt = -Double.infinity
    var hasLSN = false
    var obstacle: String?
  }

  private static let redrawSeconds: Double = 0.1
  private static let lineSeconds: Double = 5
  private let writer: LogWriter
  private let uptime: @Sendable () -> Double
  private let state = Mutex(State())

  /// - Parameter uptime: seconds that never go backwards.
  init(writer: LogWriter, uptime: @escaping @Sendable () -> Double) {
    self.writer = writer
    self.uptime = uptime
  }

  func show(_ status: Status) {
    guard let verification = status.verification else { return report(status.stream.waitsFor) }
    state.withLock { state in
      let now = uptime()
      if let progress = verification.progress { state.pace.observe(progress.bytesDone, at: now) }
      let isNews = state.hasLSN != (verification.lsn != nil)
      let pause = writer.console.columns == nil ? Self.lineSeconds : Self.redrawSeconds
      guard isNews || now - state.shownAt >= pause else { return }
      state.hasLSN = verification.lsn != nil
      state.shownAt = now
      let text = VerificationText(verification: verification, pace: state.pace)
      if let columns = writer.console.columns {
        writer.console.show(text.rows(columns: columns))
      } else if writer.format == .json {
        writer.write("progress", status: status)
      } else {
        writer.write(text.line)
      }
    }
  }

  /// What keeps the comparison from beginning, once.
  private func report(_ obstacle: String?) {
    state.withLock { state in
      defer { state.obstacle = obstacle }
      guard let obstacle, state.obstacle != obstacle else { return }
      writer.write("waiting to begin: \(obstacle)", level: .notice)
    }
  }

  func finish() { writer.console.show([]) }
}

/// How far a comparison has come, as a line of a log or as rows for a screen.
struct VerificationText: Sendable {
  let verification: Status.Verification
  let pace: CopyPace

  var line: String {
    let share = fraction.map { [Quantity.percent($0)] } ?? []
    return "verify: \((share + parts).joined(separator: ", "))"
  }

  func rows(columns: Int) -> [String] {
    let title = Fitting.padded("verify", to: 10)
    let bar = fraction.flatMap { ProgressText.bar($0, columns: columns - title.count) }.map { [$0] } ?? []
    return Fitting.packed(title: title, bar + parts, columns: columns)
  }

  private var fraction: Double? {
    guard let progress = verification.progress, progress.bytesTotal > 0 else { return nil }
    return Double(progress.bytesDone) / Double(progress.bytesTotal)
  }

  var parts: [String] {
    guard let lsn = verification.lsn else { return ["taking a snapshot of both ends"] }
    guard let progress = verification.progress else { return ["both ends at \(lsn)"] }
    var parts = [
      "\(Quantity.count(Int64(progress.tablesDone))) of "
        + Quantity.count(Int64(progress.tablesTotal), "table", "tables"),
      "\(Quantity.bytes(progress.bytesDone)) of \(Quantity.bytes(progress.bytesTotal))",
      Quantity.count(progress.rowsDone, "row", "rows"),
    ]
    if let rate = pace.bytesPerSecond {
      parts.append(Quantity.bytesPerSecond(rate))
      let left = progress.bytesTotal - progress.bytesDone
      if let eta = pace.seconds(for: left) { parts.append("ETA \(Quantity.seconds(eta))") }
    }
    return parts + ["at \(lsn)"]
  }
}
