import MigrationEngine

/// `replicate status` for people.
enum StatusPrinter {
  private static let labelWidth = 11

  /// The width of a bar where no screen limits it.
  private static let barColumns = 40

  /// - Parameters:
  ///   - columns: the width to keep to; nil to leave lines as long as they are.
  ///   - pace: the recent pace of the copy; without it, its average is shown.
  static func rows(_ status: Status, columns: Int? = nil, pace: CopyPace = CopyPace()) -> [String] {
    let pace = pace.bytesPerSecond == nil ? CopyPace(average: status.copy) : pace
    let bar = ProgressText.bar(status, columns: columns.map { $0 - labelWidth } ?? barColumns)
    let copy = (bar.map { [$0] } ?? []) + copy(status) + ProgressText.rateParts(status, pace)
    return sections(status, copy: copy).flatMap { label, parts in
      let parts = parts.map(Fitting.plain)
      let title = Fitting.padded(label, to: labelWidth)
      guard let columns else { return [title + parts.joined(separator: ", ")] }
      return Fitting.packed(title: title, parts, columns: columns)
    }
  }

  static func text(_ status: Status) -> String { rows(status).joined(separator: "\n") }

  private static func sections(_ status: Status, copy: [String]) -> [(String, [String])] {
    var sections = [
      (
        "migration",
        [status.migration, status.phase.rawValue]
          + (status.ready ? [status.phase == .reverse ? "ready for a rollback" : "ready for a cutover"] : [])
      ),
      ("engine", engine(status)),
      ("source", end(status.source.database, status.source.serverVersion, isTLS: status.source.tls)),
      ("target", end(status.target.database, status.target.serverVersion, isTLS: status.target.tls)),
      ("encryption", [encryption(status.target.encryption)]),
      ("copy", copy),
      ("stream", stream(status.stream)),
    ]
    let rates = ProgressText.streamParts(status)
    if !rates.isEmpty { sections.append(("", rates)) }
    let waits = status.stream.waitsFor?.split(separator: "\n").map(String.init) ?? []
    if waits.count > 1 {
      sections += waits.enumerated().map { index, what in (index == 0 ? "waits for" : "", [what]) }
    }
    sections.append(("slot", [.complete, .aborted].contains(status.phase) ? ["dropped"] : slot(status.slot)))
    if let cutover = status.cutover {
      sections.append((cutover.direction == .back ? "rollback" : "cutover", self.cutover(cutover)))
    }
    if let verification = status.verification {
      sections.append(("verify", VerificationText(verification: verification, pace: CopyPace()).parts))
    }
    if let failure = status.failure { sections.append(("failure", [failure])) }
    return sections
  }

  private static func engine(_ status: Status) -> [String] {
    let engine = status.engine
    let place = engine.host.isEmpty ? "" : " on \(engine.host) (pid \(engine.pid))"
    guard engine.running else {
      let last = "not running" + (place.isEmpty ? "" : ", last seen\(place)")
      return [.complete, .aborted].contains(status.phase) ? [last] : [last, "'replicate start' continues"]
    }
    return ["running\(place)", "heartbeat \(Quantity.seconds(engine.heartbeatAgeSeconds)) ago"]
  }

  private static func end(_ database: String, _ version: String, isTLS: Bool) -> [String] {
    if database.isEmpty { return ["not known"] }
    return [
      database, "PostgreSQL \(version.isEmpty ? "of unknown version" : version)", isTLS ? "TLS" : "no TLS",
    ]
  }

  static func encryption(_ evidence: EncryptionEvidence) -> String {
    switch evidence.status {
    case .verified: "verified (\(evidence.provider.rawValue)): \(evidence.detail)"
    case .attested: "attested (\(evidence.provider.rawValue)): \(evidence.detail)"
    case .unverified: "unverified: \(evidence.detail)"
    }
  }

  private static func copy(_ status: Status) -> [String] {
    let copy = status.copy
    if copy.tablesTotal == 0, copy.bytesTotal == 0 { return ["not begun"] }
    return ProgressText.copyParts(copy) + ["in \(Quantity.seconds(copy.seconds))"]
  }

  private static func stream(_ stream: Status.Stream) -> [String] {
    [
      "received \(stream.receivedLSN)", "applied \(stream.appliedLSN)", "source \(stream.sourceLSN)",
      Quantity.count(stream.transactions, "transaction", "transactions"),
      Quantity.count(stream.changes, "change", "changes"),
    ]
  }

  private static func slot(_ slot: Status.Slot) -> [String] {
    if slot.name.isEmpty { return ["none"] }
    var parts = ["\(slot.name) (\(slot.status.isEmpty ? "status unknown" : slot.status))"]
    parts.append("retains \(Quantity.bytes(slot.retainedBytes)) of WAL")
    if let safe = slot.safeBytes { parts.append("\(Quantity.bytes(safe)) more until it is lost") }
    return parts
  }

  private static func cutover(_ cutover: Status.Cutover) -> [String] {
    var parts = [cutover.result?.rawValue ?? "under way", "step \(cutover.step.rawValue)"]
    if let fence = cutover.fenceLSN { parts.append("fence at \(fence)") }
    if let pause = cutover.writePauseSeconds { parts.append("write pause \(Quantity.seconds(pause))") }
    if let verification = cutover.verification {
      parts.append(
        "both ends compared (\(verification.extent.rawValue)): \(verification.result.rawValue), in "
          + Quantity.seconds(verification.seconds))
    }
    if let reason = cutover.reason { parts += Fitting.split(reason) }
    return parts
  }
}
