import MigrationEngine

/// What preflight found: the worst first, each with what mends it, commands unwrapped so that they can be
/// copied.
enum FindingsPrinter {
  static func text(_ report: PreflightReport) -> String {
    let blocks = Finding.Severity.allCases.sorted(by: >).flatMap { severity in
      report.findings.filter { $0.severity == severity }.map(text)
    }
    return (blocks + [summary(report)]).joined(separator: "\n\n")
  }

  static func json(_ report: PreflightReport) -> String {
    JSONText.line(Report(blocked: report.isBlocked, findings: report.findings))
  }

  static func summary(_ report: PreflightReport) -> String {
    let counts = Finding.Severity.allCases.sorted(by: >).compactMap { severity -> String? in
      let count = report.findings.count { $0.severity == severity }
      return count == 0 ? nil : Quantity.count(Int64(count), severity.rawValue, severity.rawValue + "s")
    }
    let found = counts.isEmpty ? "no findings" : counts.joined(separator: ", ")
    return found + (report.isBlocked ? ": the migration cannot begin" : ": the migration can begin")
  }

  private static func text(_ finding: Finding) -> String {
    let title = "\(Fitting.padded(finding.severity.rawValue, to: 7))  \(finding.check): \(finding.object)"
    var lines = [Fitting.plain(title)]
    lines += indented(finding.why, by: "         ")
    if !finding.remedy.isEmpty { lines += indented(finding.remedy, by: "         ", first: "    mend ") }
    return lines.joined(separator: "\n")
  }

  private static func indented(_ text: String, by indent: String, first: String? = nil) -> [String] {
    Fitting.split(text).enumerated().map { index, line in
      (index == 0 ? first ?? indent : indent) + Fitting.plain(line)
    }
  }

  private struct Report: Encodable {
    var blocked: Bool
    var findings: [Finding]
  }
}
