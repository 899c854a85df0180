import Clusters

@testable import LibPQ
@testable import MigrationEngine

extension Preflight {
  /// The report on two databases, as `replicate check` makes it.
  static func check(
    source: Clusters.ConnectionString, target: Clusters.ConnectionString, isResuming: Bool = false,
    name: String = "replicate", longTransaction: Duration = .seconds(60),
    _ configure: (inout MigrationOptions) -> Void = { _ in }
  ) async throws -> PreflightReport {
    var options = MigrationOptions(
      source: try LibPQ.ConnectionString(source.text, for: "source"),
      target: try LibPQ.ConnectionString(target.text, for: "target"))
    configure(&options)
    let sourceConnection = try await Session.open(options.source, end: "source", purpose: "check")
    let targetConnection = try await Session.open(options.target, end: "target", purpose: "check")
    let report = try await Preflight.examine(
      PreflightContext(
        source: sourceConnection, target: targetConnection,
        catalog: try await Catalog.read(from: sourceConnection), options: options, isResuming: isResuming,
        names: PreflightContext.Names(slot: name, publication: name), longTransaction: longTransaction))
    await sourceConnection.close()
    await targetConnection.close()
    return report
  }
}

extension PreflightReport {
  func findings(_ check: String) -> [Finding] { findings.filter { $0.check == check } }

  var blockers: [Finding] { findings.filter { $0.severity == .blocker } }
}
