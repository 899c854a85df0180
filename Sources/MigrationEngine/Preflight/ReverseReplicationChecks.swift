import LibPQ

extension Preflight {
  /// Whether reverse replication will be possible once the target is open.
  enum Reversibility {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      guard context.options.replicatesBack else { return [] }
      return try await ReverseObstacle.find(
        source: context.source, target: context.target, slot: context.names.reverseSlot
      ).map { obstacle in
        Finding(
          .warning, check: "way_back", object: "target",
          why: "There will be no way back after the cutover: \(obstacle.why)",
          remedy: "\(obstacle.remedy) Or go without, with --no-reverse.")
      }
    }
  }
}
