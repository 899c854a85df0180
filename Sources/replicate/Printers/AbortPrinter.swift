/// What an abort removed, and what it could not.
enum AbortPrinter {
  /// - Parameter left: each with the command that removes it.
  static func text(removed: [String], left: [String]) -> String {
    var lines = removed.isEmpty ? ["nothing to remove"] : ["removed"] + removed.map(item)
    if !left.isEmpty {
      lines += ["could not be removed; remove by hand"] + left.map(item)
    }
    return lines.joined(separator: "\n")
  }

  private static func item(_ text: String) -> String {
    "  "
      + text.split(separator: "\n", omittingEmptySubsequences: false)
      .map { Fitting.plain(String($0)) }.joined(separator: "\n    ")
  }
}
