extension VerificationReport {
  /// In one sentence, for the trail and the timeline.
  package var summary: String {
    let compared = tables.filter { $0.verdict != .notCompared }
    if isVoid { return "nothing was compared" }
    if extent == .changed, tables.isEmpty { return "nothing was changed since both ends were compared" }
    let what =
      switch extent {
      case .full: "all rows of \(Self.count(compared.count, "table", "tables"))"
      case .changed: "changed rows of \(Self.count(compared.count, "table", "tables"))"
      case .counts: "row counts of \(Self.count(compared.count, "table", "tables"))"
      }
    let left = tables.count - compared.count
    var words = hasDifferences ? "\(what) compared, they differ: \(differences)" : "\(what) are equal"
    if left > 0 { words += ", \(Self.count(left, "table was", "tables were")) not compared" }
    if let lsn { words += ", at \(lsn)" }
    return "\(words) (\(digest))"
  }

  /// The first differences, named.
  var differences: String {
    let named = 5
    var words = tables.filter { $0.verdict == .different }.map { table in
      let rows = table.rows.prefix(named).map { "\($0.kind.rawValue) \($0.words)" }
      return rows.isEmpty
        ? "\(table.name): \(table.sourceRows ?? 0) rows on the source, \(table.targetRows ?? 0) on the target"
        : "\(table.name): \(rows.joined(separator: ", "))"
    }
    words += objects.filter { !$0.isExpected }.map(\.words)
    let more = words.count > named ? "; and \(words.count - named) more" : ""
    return words.prefix(named).joined(separator: "; ") + more
  }

  private static func count(_ count: Int, _ one: String, _ many: String) -> String {
    "\(count) \(count == 1 ? one : many)"
  }
}
