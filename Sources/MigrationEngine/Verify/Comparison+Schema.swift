import LibPQ

extension Comparison {
  /// What pg_dump says of both ends, under their snapshots.
  func schema() async throws -> [VerificationReport.ObjectDifference] {
    guard options.comparesSchema else { return [] }
    async let here = Self.dump(source)
    async let there = Self.dump(target)
    let (left, right) = try await (here, there)
    let comparison = SchemaDifferences(
      ownPublications: options.ownPublications, isStreaming: options.scope == .streaming,
      isAcrossVersions: source.versionNumber / 10_000 != target.versionNumber / 10_000)
    return comparison.differences(source: SchemaText(left), target: SchemaText(right))
  }

  private static func dump(_ end: VerifiedEnd) async throws -> String {
    guard let snapshot = end.snapshot else { return "" }
    return try await PostgresTool(name: "pg_dump").run(
      [
        "--schema-only", "--no-subscriptions", "--exclude-schema=replicate", "--snapshot=\(snapshot)",
        try await end.side.connection.argument(end: end.side.end, purpose: "verify"),
      ], on: end.side.connection, doing: "dumping the \(end.side.end)'s schema to compare it")
  }
}
