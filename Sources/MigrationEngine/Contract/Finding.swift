/// One thing that preflight found: what it is, why it matters, and how to fix it.
package struct Finding: Sendable, Codable, Equatable {
  /// How bad it is; ordered, a blocker being the greatest.
  package enum Severity: String, Sendable, Codable, Comparable, CaseIterable {
    /// A blocker prevents the migration from starting; a warning or a note does not.
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
  /// The check that found it, as a stable name for programs: "wal_level".
  package var check: String
  /// What it is about: "source", "table \"public\".\"events\"".
  package var object: String
  /// What was found, and what it would lead to.
  package var why: String
  /// The exact commands or options that fix it.
  package var remedy: String

  /// - Parameter check: a stable name for programs.
  package init(_ severity: Severity, check: String, object: String, why: String, remedy: String) {
    self.severity = severity
    self.check = check
    self.object = object
    self.why = why
    self.remedy = remedy
  }
}

/// All that preflight found. Every check runs, regardless of what the others found.
package struct PreflightReport: Sendable, Codable, Equatable {
  /// In the order of the checks.
  package var findings: [Finding]

  /// Whether anything must be fixed before a start.
  package var isBlocked: Bool { findings.contains { $0.severity == .blocker } }
}
