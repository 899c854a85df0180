import MigrationEngine

/// `replicate status --json`: the value exactly as it encodes itself, on one line.
enum StatusJSON {
  static func text(_ status: Status) -> String { JSONText.line(status) }
}
