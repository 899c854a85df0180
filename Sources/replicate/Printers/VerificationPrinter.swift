import MigrationEngine

/// What a comparison of both ends found, for people.
enum VerificationPrinter {
  static func text(_ report: VerificationReport) -> String { lines(report).joined(separator: "\n") }

  static func lines(_ report: VerificationReport) -> [String] {
    var lines = [headline(report)]
    lines.append("digest      \(Fitting.plain(report.digest))")
    let (source, target) = (Fitting.plain(report.sourceVersion), Fitting.plain(report.targetVersion))
    lines.append("servers     source \(source), target \(target)")
    lines.append("read        \(Quantity.bytes(report.bytes)) in \(Quantity.seconds(report.seconds))")
    lines += [""] + tables(report.tables)
    for table in report.tables where table.verdict == .different { lines += differences(table) }
    let unexpected = report.objects.filter { !$0.isExpected }
    if !unexpected.isEmpty { lines += ["", "different:"] + unexpected.map(object) }
    let expected = report.objects.filter(\.isExpected)
    if !expected.isEmpty { lines += ["", "different, as expected now:"] + expected.map(object) }
    if !report.notes.isEmpty { lines += ["", "notes:"] + report.notes.map { "  \(Fitting.plain($0))" } }
    return lines
  }

  private static func headline(_ report: VerificationReport) -> String {
    let place = report.lsn.map { " at \($0)" } ?? ""
    if report.isVoid { return "nothing was compared\(place)" }
    return report.hasDifferences ? "the ends differ\(place)" : "the ends are equal\(place)"
  }

  private static func object(_ difference: VerificationReport.ObjectDifference) -> String {
    "  \(Fitting.plain(difference.words))"
  }

  private static func tables(_ tables: [VerificationReport.Table]) -> [String] {
    let cells = tables.map { table in
      [
        Fitting.plain(table.name.description), verdict(table),
        table.sourceRows.map { Quantity.count($0, "row", "rows") } ?? "", table.method.rawValue,
        table.reason.map(Fitting.plain) ?? "",
      ]
    }
    let widths = (0..<4).map { column in cells.map { Fitting.width(of: $0[column]) }.max() ?? 0 }
    return cells.map { row in
      let padded = zip(row, widths).map { Fitting.padded($0, to: $1) } + row.dropFirst(4)
      return String(("  " + padded.joined(separator: "  ")).reversed().drop { $0 == " " }.reversed())
    }
  }

  private static func verdict(_ table: VerificationReport.Table) -> String {
    switch table.verdict {
    case .equal: "equal"
    case .different: "different"
    case .notCompared: "not compared"
    }
  }

  private static func differences(_ table: VerificationReport.Table) -> [String] {
    var lines = ["", "\(Fitting.plain(table.name.description)): \(counts(table))"]
    lines += table.rows.map { "  \($0.kind.rawValue)  \(Fitting.plain($0.words))" }
    let found = table.missing + table.extra + table.different
    if table.hasMore {
      lines.append("  and more")
    } else if found > table.rows.count {
      lines.append("  and \(Quantity.count(found - Int64(table.rows.count))) more")
    }
    return lines
  }

  private static func counts(_ table: VerificationReport.Table) -> String {
    guard table.missing + table.extra + table.different > 0 else {
      return
        "\(Quantity.count(table.sourceRows ?? 0, "row", "rows")) on the source, "
        + "\(Quantity.count(table.targetRows ?? 0)) on the target"
    }
    let parts = [
      (table.missing, "missing on the target"), (table.extra, "extra on the target"),
      (table.different, "different"),
    ]
    return parts.filter { $0.0 > 0 }.map { "\(Quantity.count($0.0)) \($0.1)" }.joined(separator: ", ")
  }
}
