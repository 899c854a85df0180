import MigrationEngine

/// The report at the end of a cutover.
enum CutoverPrinter {
  static func text(_ cutover: Status.Cutover, encryption: EncryptionEvidence?) -> String {
    var lines = [headline(cutover)]
    if let reason = cutover.reason {
      let label = cutover.result == .complete ? "to do" : "reason"
      let rows = Fitting.split(reason).map(Fitting.plain)
      lines.append(Fitting.padded(label, to: 12) + (rows.first ?? ""))
      lines += rows.dropFirst().map { Fitting.padded("", to: 12) + $0 }
    }
    if let fence = cutover.fenceLSN { lines.append("fence       \(fence)") }
    if let verification = cutover.verification {
      let took = verification.result == .nothing ? "" : " in \(Quantity.seconds(verification.seconds))"
      lines.append(
        "verified    \(verification.extent.rawValue)\(took): \(Fitting.plain(verification.summary))")
      if let notice = verification.notice { lines.append("            \(Fitting.plain(notice))") }
    }
    lines += (cutover.warnings ?? []).map { "warning     \(Fitting.plain($0))" }
    if let encryption {
      lines.append("encryption  \(Fitting.plain(StatusPrinter.encryption(encryption)))")
    }
    if !cutover.timeline.isEmpty { lines += [""] + timeline(cutover.timeline) }
    return lines.joined(separator: "\n")
  }

  private static func headline(_ cutover: Status.Cutover) -> String {
    let direction = cutover.direction ?? .forward
    let what = direction == .forward ? "cutover" : "rollback"
    let result =
      switch cutover.result {
      case .complete: "complete"
      case .aborted: "aborted, the \(direction.from) is writable again"
      case .rehearsed: "rehearsed, the \(direction.from) is writable again"
      case nil: "at step \(cutover.step.rawValue)"
      }
    let pause = cutover.writePauseSeconds.map { "writes paused for \(Quantity.seconds($0))" }
    return "\(what) \(result)" + (pause.map { "; \($0)" } ?? "")
  }

  static func timeline(_ entries: [Status.TimelineEntry]) -> [String] {
    let cells = entries.map {
      [Quantity.seconds($0.startSeconds), Quantity.seconds($0.seconds), $0.step, $0.detail].map(Fitting.plain)
    }
    let rows = [["at", "took", "step", ""]] + cells
    let widths = (0..<3).map { column in rows.map { Fitting.width(of: $0[column]) }.max() ?? 0 }
    return rows.map { row in
      let padded = zip(row, widths).map { Fitting.padded($0, to: $1) } + row.dropFirst(widths.count)
      let line = "  " + padded.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed())
    }
  }
}
