/// One thing that preflight found: what, why it matters, and what mends it.
package struct Finding: Sendable, Codable, Equatable {
  /// How bad it is; ordered, a blocker being the greatest.
  package enum Severity: String, Sendable, Codable, Comparable, CaseIterable {
    /// A blocker keeps the migration from its start; a warning and a note do not.
    case note, warning, blocker

    package static func < (left: Self, right: Self) -> Bool { left.rank < right.rank }
    private var rank: Int {
      switch self {
      case .note: 0
      case .warning: 1
      case .blocker: 2
      }
    }
  }

  /// A blocker ends `check` with exit code 3.
  package var severity: Severity
  /// The check that found it, as a stable word for programs: "wal_level".
  package var check: String
  /// What it is about: "source", "table \"public\".\"events\"".
  package var object: String
  /// What is found, and what it would lead to.
  package var why: String
  /// The exact commands or options that mend it.
  package var remedy: String

  /// - Parameter check: a stable word for programs.
  package init(_ severity: Severity, check: String, object: String, why: String, remedy: String) {
    self.severity = severity
    self.check = check
    self.object = object
    self.why = why
    self.remedy = remedy
  }
}

/// All that preflight found. Every check runs, whatever the others found.
package struct PreflightReport: Sendable, Codable, Equatable {
  /// In the order of the checks.
  package var findings: [Finding]

  /// Whether anything must be mended before a start.
  package var isBlocked: Bool { findings.contains { $0.severity == .blocker } }
}
