import MigrationEngine

/// What preflight found: the worst first, each with its remedy; commands are not wrapped, so that they can be
/// copied.
enum FindingsPrinter {
  static func text(_ report: PreflightReport) -> String {
    (blocks(report.findings) + [summary(report)]).joined(separator: "\n\n")
  }

  /// The findings alone.
  static func blocks(_ findings: [Finding]) -> [String] {
    Finding.Severity.allCases.sorted(by: >).flatMap { severity in
      kinds(findings.filter { $0.severity == severity }).flatMap(texts)
    }
  }

  /// A schema of hundreds of tables may have hundreds of findings of one kind: this many are printed in full,
  /// and of the rest only the objects.
  private static let fullCount = 10

  /// The findings of each check, in the order of their first ones.
  private static func kinds(_ findings: [Finding]) -> [[Finding]] {
    var kinds: [[Finding]] = []
    var places: [String: Int] = [:]
    for finding in findings {
      if let place = places[finding.check] {
        kinds[place].append(finding)
      } else {
        places[finding.check] = kinds.count
        kinds.append([finding])
      }
    }
    return kinds
  }

  private static func texts(_ kind: [Finding]) -> [String] {
    // A summary of a single finding would be no shorter.
    guard kind.count > fullCount + 1, let first = kind.first else { return kind.map(text) }
    let rest = kind.dropFirst(fullCount)
    let sum = Finding(
      first.severity, check: first.check, object: "\(rest.count) more",
      why: rest.map(\.object).joined(separator: ", "),
      remedy: "As above; with --json each is listed in full.")
    return kind.prefix(fullCount).map(text) + [text(sum)]
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
