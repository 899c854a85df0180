import MigrationEngine
import Synchronization

/// Prints the steps of a cutover on stderr as they happen: each once it is over, and on a screen the current
/// one.
final class CutoverFollower: Sendable {
  private struct State {
    var printed = 0
    var step: Status.Cutover.Step?
    var latest: Status?
  }

  private let writer: LogWriter
  private let state = Mutex(State())

  init(writer: LogWriter) { self.writer = writer }

  var latest: Status? { state.withLock { $0.latest } }

  func show(_ status: Status) {
    state.withLock { state in
      state.latest = status
      guard let cutover = status.cutover else { return }
      // A retried cutover begins a new timeline.
      if cutover.timeline.count < state.printed { state.printed = 0 }
      for entry in cutover.timeline.dropFirst(state.printed) { print(entry, Self.name(cutover)) }
      state.printed = cutover.timeline.count
      if let columns = writer.console.columns {
        writer.console.show([
          Fitting.truncated(Fitting.plain("\(Self.name(cutover))   \(cutover.step.rawValue) …"), to: columns)
        ])
      } else if cutover.step != state.step {
        writer.write("\(Self.name(cutover)): step \(cutover.step.rawValue)")
      }
      state.step = cutover.step
    }
  }

  func finish() {
    writer.console.show([])
  }

  private static func name(_ cutover: Status.Cutover) -> String {
    cutover.direction == .back ? "rollback" : "cutover"
  }

  private func print(_ entry: Status.TimelineEntry, _ name: String) {
    let took = Quantity.seconds(entry.seconds)
    let detail = entry.detail.isEmpty ? "" : ": \(entry.detail)"
    let metadata =
      writer.format == .text
      ? [:] : ["step": entry.step, "start_seconds": "\(entry.startSeconds)", "seconds": "\(entry.seconds)"]
    writer.write("\(name): \(entry.step) took \(took)\(detail)", metadata: metadata)
  }
}
