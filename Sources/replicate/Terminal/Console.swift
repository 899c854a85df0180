import Synchronization

/// The screen of a running command: lines that scroll away, and below them a region that is redrawn in place.
/// Log lines and the region share one lock, so neither garbles the other.
final class Console: Sendable {
  private let lines: Output
  private let region: (output: Output, terminal: Terminal)?
  private let drawn = Mutex<[String]>([])

  /// - Parameter region: where rows may be drawn again in place; nil where there is no screen.
  init(lines: Output, region: (output: Output, terminal: Terminal)?) {
    self.lines = lines
    self.region = region
  }

  /// Columns that a row may fill, one less than there are: a full row would wrap on some terminals.
  /// Nil without a screen.
  var columns: Int? { region.map { max(1, $0.terminal.columns() - 1) } }

  /// Writes a line above the region.
  func line(_ text: String) {
    drawn.withLock { rows in
      erase(rows)
      lines.line(text)
      draw(rows)
    }
  }

  /// Draws the region again with these rows, each at most `columns` wide.
  func show(_ rows: [String]) {
    drawn.withLock { old in
      guard rows != old else { return }
      erase(old)
      draw(rows)
      old = rows
    }
  }

  /// Leaves the region as it stands; what follows is written below.
  func settle() {
    drawn.withLock { rows in
      if !rows.isEmpty { region?.output.write("\n") }
      rows = []
    }
  }

  private func draw(_ rows: [String]) {
    if !rows.isEmpty { region?.output.write(rows.joined(separator: "\n")) }
  }

  private func erase(_ rows: [String]) {
    guard let region, !rows.isEmpty else { return }
    // A narrowed window has wrapped the rows since.
    let columns = max(1, region.terminal.columns())
    let height = rows.reduce(0) { $0 + max(1, (Fitting.width(of: $1) + columns - 1) / columns) }
    region.output.write(height > 1 ? "\r\u{1B}[\(height - 1)A\u{1B}[J" : "\r\u{1B}[J")
  }
}
