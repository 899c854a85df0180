import MigrationEngine

/// `replicate report` for people.
enum ReportPrinter {
  static func text(_ report: MigrationReport) -> String {
    var lines = ["Report of a migration by replicate, \(report.reportedAt)", ""]
    lines += StatusPrinter.rows(report.status)
    lines += [""]
    lines.append("began       \(report.beganAt)")
    lines.append(
      "source      database \(Fitting.plain(report.sourceDatabase)) of system \(report.sourceSystem)")
    if !report.excludedTables.isEmpty {
      lines.append("excluded    \(Fitting.plain(report.excludedTables.joined(separator: ", ")))")
    }
    lines += section("Tables", table(report.tables))
    for cutover in report.cutovers { lines += self.cutover(cutover, report.status.target.encryption) }
    for verification in report.verifications { lines += self.verification(verification) }
    lines += section("Trail", report.events.map { "  \($0.at)  \(Fitting.plain($0.what))" })
    return lines.joined(separator: "\n")
  }

  private static func section(_ title: String, _ lines: [String]) -> [String] {
    lines.isEmpty ? [] : ["", "── \(title)"] + lines
  }

  private static func table(_ tables: [MigrationReport.Table]) -> [String] {
    let cells = tables.map { table in
      [
        Fitting.plain(table.name), Quantity.count(table.copiedRows, "row", "rows"),
        Quantity.bytes(table.copiedBytes), table.snapshotLSN.map { "snapshot at \($0)" } ?? "not copied yet",
      ]
    }
    let widths = (0..<3).map { column in cells.map { Fitting.width(of: $0[column]) }.max() ?? 0 }
    return cells.map { row in
      "  " + (zip(row, widths).map { Fitting.padded($0, to: $1) } + row.dropFirst(3)).joined(separator: "  ")
    }
  }

  private static func verification(_ verification: MigrationReport.Verification) -> [String] {
    let request = verification.request
    var lines = ["asked for by \(Fitting.plain(request.requestedBy)) at \(verification.requestedAt)"]
    if !request.tables.isEmpty {
      lines[0] += ", of \(Fitting.plain(request.tables.map(\.description).joined(separator: ", ")))"
    }
    if let outcome = verification.outcome { lines += VerificationPrinter.lines(outcome) }
    if let failure = verification.failure { lines.append("failed: \(Fitting.plain(failure))") }
    return section("Verification", lines)
  }

  private static func cutover(
    _ cutover: MigrationReport.Cutover, _ encryption: EncryptionEvidence
  ) -> [String] {
    let request = cutover.request
    let what = request.direction == .forward ? "Cutover" : "Rollback"
    let kind = request.isRehearsal ? "Rehearsal" : what
    var lines = [
      "asked for by \(Fitting.plain(request.requestedBy)) at \(cutover.requestedAt), with "
        + "--max-pause \(Quantity.seconds(request.maxPauseSeconds)), "
        + "--timeout \(Quantity.seconds(request.timeoutSeconds)), "
        + "--verify \(request.verification.rawValue)"
        + (request.terminatesBlockers ? ", --terminate-blockers" : "")
        + (request.acceptedDifferences ?? []).map { ", --accept-difference '\(Fitting.plain($0))'" }.joined()
    ]
    if let outcome = cutover.outcome {
      lines += CutoverPrinter.text(outcome, encryption: encryption).split(
        separator: "\n", omittingEmptySubsequences: false
      ).map(String.init)
      lines += (outcome.terminated ?? []).map { "ended by force: \(Fitting.plain($0))" }
    } else {
      lines.append("state: \(cutover.state)")
    }
    lines += cutover.switchSteps.map { step in
      Fitting.plain("switch step \(step.definition): \(step.state) at \(step.at): \(step.detail)")
    }
    return section(kind, lines)
  }
}
