import LibPQ

/// What preflight looks at.
struct PreflightContext: Sendable {
  /// Sessions from `Session.open`, without an open transaction.
  let source: Connection
  let target: Connection
  /// The source's catalog.
  let catalog: Catalog
  let options: MigrationOptions
  /// Whether the target already holds this migration, so that its own objects are no obstacle.
  let isResuming: Bool
  let names: Names
  /// The age from which a transaction counts as a long one.
  var longTransaction = Duration.seconds(60)

  /// The names of what the migration creates on both ends.
  struct Names: Sendable {
    var slot: String
    var publication: String
    /// The slot on the target.
    var reverseSlot = ""
  }

  /// The source's tables that the user wants to migrate.
  var migrated: [Relation] {
    let excluded = Set(options.excluded)
    return catalog.relations.filter { !excluded.contains($0.name) }
  }
}

/// Looks for everything that would stop or spoil a migration, before anything is changed on either end.
enum Preflight {
  /// Runs all checks, whatever they find. Changes nothing. Each statement may take 30 seconds.
  /// - Returns: the findings, blockers first.
  /// - Throws: `PostgresError` when a connection is lost, `CancellationError`. What a server refuses to
  ///   report is a finding.
  static func examine(_ context: PreflightContext) async throws -> PreflightReport {
    var findings: [Finding] = []
    for check in Check.all { findings += try await check.findings(in: context) }
    return PreflightReport(findings: inOrder(findings))
  }

  /// By severity, and within one severity in the order of the checks.
  static func inOrder(_ findings: [Finding]) -> [Finding] {
    Finding.Severity.allCases.sorted(by: >).flatMap { severity in
      findings.filter { $0.severity == severity }
    }
  }
}
