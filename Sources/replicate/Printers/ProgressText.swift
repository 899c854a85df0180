import MigrationEngine

/// One status as a line of a log, or as rows for a screen. Pure: the pace of the copy comes in from outside.
struct ProgressText: Sendable {
  let status: Status
  let pace: CopyPace

  /// For logs: everything on one line.
  var line: String {
    let share = Self.fraction(status).map { [Quantity.percent($0)] } ?? []
    return "\(status.phase.rawValue): \((share + parts).map(Fitting.plain).joined(separator: ", "))"
  }

  /// For screens: at most `columns` wide.
  func rows(columns: Int) -> [String] {
    let title = Fitting.padded(status.phase.rawValue, to: 10)
    let bar = Self.bar(status, columns: columns - title.count).map { [$0] } ?? []
    return Fitting.packed(title: title, (bar + parts).map(Fitting.plain), columns: columns)
  }

  /// How much of the copy is done, in at most `columns`; nil while nothing is copied.
  static func bar(_ status: Status, columns: Int) -> String? {
    fraction(status).map { bar($0, columns: columns) }
  }

  /// A part of a whole as a bar, in at most `columns`.
  static func bar(_ fraction: Double, columns: Int) -> String {
    let percent = Quantity.percent(fraction)
    let width = min(30, columns - 8)
    guard width >= 8 else { return percent }
    let filled = min(width, max(0, Int((min(1, max(0, fraction)) * Double(width)).rounded(.down))))
    return
      "[\(String(repeating: "#", count: filled))\(String(repeating: ".", count: width - filled))] \(percent)"
  }

  private static func fraction(_ status: Status) -> Double? {
    guard status.phase == .copy, status.copy.bytesTotal > 0 else { return nil }
    return Double(status.copy.bytesDone) / Double(status.copy.bytesTotal)
  }

  private var parts: [String] {
    switch status.phase {
    case .preflight: ["examining both ends"]
    case .schema: ["creating slot, publication and tables"]
    case .copy: Self.copyParts(status.copy) + Self.rateParts(status, pace)
    case .index: ["building indexes and keys"] + slotParts
    case .catchup, .streaming, .reverse: Self.streamParts(status) + slotParts
    case .cutover: cutoverParts
    case .complete:
      status.cutover?.direction == .back
        ? ["the source is open again, the target is closed"] : ["the target is open, the source is closed"]
    case .aborted: ["everything was removed again"]
    case .failed: [status.failure ?? "the engine stopped with an error"]
    }
  }

  static func copyParts(_ copy: Status.Copy) -> [String] {
    [
      "\(Quantity.count(Int64(copy.tablesDone))) of "
        + Quantity.count(Int64(copy.tablesTotal), "table", "tables"),
      "\(Quantity.bytes(copy.bytesDone)) of \(Quantity.bytes(copy.bytesTotal))",
      Quantity.count(copy.rowsDone, "row", "rows"),
    ]
  }

  /// Rate and ETA of a running copy.
  static func rateParts(_ status: Status, _ pace: CopyPace) -> [String] {
    guard status.phase == .copy, let rate = pace.bytesPerSecond else { return [] }
    let left = status.copy.bytesTotal.subtractingReportingOverflow(status.copy.bytesDone)
    let eta = left.overflow ? nil : pace.seconds(for: left.partialValue)
    return [Quantity.bytesPerSecond(rate)] + (eta.map { ["ETA \(Quantity.seconds($0))"] } ?? [])
  }

  /// Lag, rates, and what a cutover would cost; nothing before there is a stream.
  static func streamParts(_ status: Status) -> [String] {
    guard [.catchup, .streaming, .cutover, .reverse, .failed].contains(status.phase) else { return [] }
    let stream = status.stream
    let direction: Direction = status.phase == .reverse ? .back : .forward
    var parts = [
      "lag \(Quantity.bytes(stream.lagBytes)) (\(Quantity.seconds(stream.lagSeconds)))",
      "applying \(Quantity.bytesPerSecond(stream.applyBytesPerSecond))",
      "\(direction.from) writes \(Quantity.bytesPerSecond(stream.sourceBytesPerSecond))",
    ]
    if let seconds = stream.catchUpSeconds {
      if seconds > 1 { parts.append("caught up in \(Quantity.seconds(seconds))") }
    } else if stream.lagBytes > 0, !status.ready {
      parts.append("not gaining on the \(direction.from)")
    }
    if let what = stream.waitsFor?.split(separator: "\n") {
      parts.append("waiting: \(what.first ?? "")")
      if what.count > 1 { parts.append("and for \(what.count - 1) more: see replicate status") }
    } else if let pause = stream.predictedPauseSeconds {
      let what = direction == .forward ? "cutover" : "rollback"
      parts.append("a \(what) would pause writes for \(Quantity.seconds(pause))")
    }
    return parts
  }

  /// A slot that retains much fills the source's disk: as good a reason to act as any lag.
  private var slotParts: [String] {
    guard !status.slot.name.isEmpty else { return [] }
    var parts = ["slot retains \(Quantity.bytes(status.slot.retainedBytes)) of WAL"]
    if !["reserved", ""].contains(status.slot.status) { parts.append("slot is \(status.slot.status)") }
    if let safe = status.slot.safeBytes { parts.append("\(Quantity.bytes(safe)) more until it is lost") }
    return parts
  }

  private var cutoverParts: [String] {
    guard let cutover = status.cutover else { return ["beginning"] }
    let pause = cutover.writePauseSeconds.map { ["writes paused for \(Quantity.seconds($0))"] } ?? []
    return ["step \(cutover.step.rawValue)"] + pause + ["lag \(Quantity.bytes(status.stream.lagBytes))"]
  }
}
