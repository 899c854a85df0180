/// One thing that preflight found: what, why it matters, and what mends it.
package struct Finding: Sendable, Codable, Equatable {
  package enum Severity: String, Sendable, Codable, Comparable, CaseIterable {
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

  package var severity: Severity
  /// The check that found it, as a stable word for programs: "wal_level".
  package var check: String
  /// What it is about: "source", "table \"public\".\"events\"".
  package var object: String
  package var why: String
  /// The exact commands or options that mend it.
  package var remedy: String

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
  package var findings: [Finding]

  package init(findings: [Finding]) { self.findings = findings }

  package var isBlocked: Bool { findings.contains { $0.severity == .blocker } }
}
