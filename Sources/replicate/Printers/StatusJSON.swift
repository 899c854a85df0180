import MigrationEngine

/// `replicate status --json`: the value exactly as encoded, on one line.
enum StatusJSON {
  static func text(_ status: Status) -> String { JSONText.line(status) }
}
