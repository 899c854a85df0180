import MigrationEngine
import Synchronization

/// The progress of `start` on stderr: rows drawn in place on a screen; elsewhere a line when the phase
/// changes, and otherwise at most one each few seconds.
final class ProgressPrinter: Sendable {
  private struct State {
    var pace = CopyPace()
    var shown: Status?
    var latest: Status?
    var shownAt = -Double.infinity
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

  /// The newest status there was.
  var latest: Status? { state.withLock { $0.latest } }

  func show(_ status: Status) {
    state.withLock { state in
      let now = uptime()
      state.latest = status
      if status.phase == .copy { state.pace.observe(status.copy.bytesDone, at: now) }
      let pause = writer.console.columns == nil ? Self.lineSeconds : Self.redrawSeconds
      guard isNews(status, after: state.shown) || now - state.shownAt >= pause else { return }
      print(status, state.pace)
      state.shown = status
      state.shownAt = now
    }
  }

  /// Shows what was pending, and leaves the screen to what follows.
  func finish() {
    state.withLock { state in
      if let latest = state.latest, latest != state.shown { print(latest, state.pace) }
      state.shown = state.latest
    }
    writer.console.settle()
  }

  private func isNews(_ status: Status, after shown: Status?) -> Bool {
    status.phase != shown?.phase || status.cutover?.step != shown?.cutover?.step
      || status.ready != shown?.ready || status.slot.status != shown?.slot.status
  }

  private func print(_ status: Status, _ pace: CopyPace) {
    let text = ProgressText(status: status, pace: pace)
    if let columns = writer.console.columns {
      writer.console.show(text.rows(columns: columns))
    } else if writer.format == .json {
      writer.write("progress", status: status)
    } else {
      writer.write(text.line)
    }
  }
}
