import Clusters
import Foundation
import Testing

/// What needs real servers, one suite after another: the suites share one pair of clusters.
@Suite(.serialized)
enum Integration {
  /// Dying in every step of a cutover and a rollback takes many minutes; `REPLICATE_TEST_EVERY_STEP=1` asks
  /// for it, and otherwise the telling steps are tried.
  static let triesEveryStep = ProcessInfo.processInfo.environment["REPLICATE_TEST_EVERY_STEP"] == "1"

  /// All steps, or those that are tried without being asked.
  static func steps(_ few: [String], else others: [String]) -> [String] {
    triesEveryStep ? few + others : few
  }
}

/// What needs real servers and measures no time: it runs beside `Integration`, on a pair of its own, since
/// much of either is waiting.
@Suite(.serialized, OtherPair())
enum IntegrationBeside {}

private struct OtherPair: SuiteTrait, TestTrait, TestScoping {
  let isRecursive = true

  func provideScope(
    for test: Test, testCase: Test.Case?, performing body: @Sendable () async throws -> Void
  ) async throws {
    try await ClusterPair.$isOther.withValue(true) { try await body() }
  }
}

extension Trait where Self == ConditionTrait {
  /// For a test that kills, stops or configures a server, or looks at its files.
  static var ownServers: Self {
    .enabled(
      if: ClusterPair.canKillServers,
      "needs servers of its own; REPLICATE_TEST_SOURCE and REPLICATE_TEST_TARGET give others")
  }
}
