import Clusters
import Foundation
import Testing

/// The servers of a suite. Suites run beside each other, each on a pair of clusters that it has alone.
struct Servers: SuiteTrait, TestScoping {
  /// What the suite takes, about; the longest begin first.
  let seconds: Int

  /// Once for the suite.
  let isRecursive = false

  func provideScope(
    for test: Test, testCase: Test.Case?, performing body: @Sendable () async throws -> Void
  ) async throws {
    try await ClusterPool.shared.withPair(for: seconds, body)
  }
}

extension Trait where Self == Servers {
  static var servers: Self { servers(about: 30) }
  /// - Parameter seconds: what the suite takes, about.
  static func servers(about seconds: Int) -> Self { Servers(seconds: seconds) }
}

extension Trait where Self == ConditionTrait {
  /// For a test whose source must know what came with a version.
  static func source(atLeast major: Int) -> Self {
    .enabled("needs a source of PostgreSQL \(major) or newer") {
      try await ClusterPair.sourceMajor() >= major
    }
  }

  /// For a test whose target, too, must know it.
  static func servers(atLeast major: Int) -> Self {
    .enabled("needs servers of PostgreSQL \(major) or newer") {
      try await min(ClusterPair.sourceMajor(), ClusterPair.targetMajor()) >= major
    }
  }

  /// For a test that leads back to where it came from, as to a new target.
  static var oneVersion: Self {
    .enabled("needs servers of one version") {
      try await ClusterPair.sourceMajor() == ClusterPair.targetMajor()
    }
  }

  /// For a test that kills, stops or configures a server, or looks at its files.
  static var ownServers: Self {
    .enabled(
      if: ClusterPair.canKillServers,
      "needs servers of its own; REPLICATE_TEST_SOURCE and REPLICATE_TEST_TARGET give others")
  }
}

/// Dying in every step of a cutover and a rollback takes many minutes; `REPLICATE_TEST_EVERY_STEP=1` asks for
/// it, and otherwise those steps are tried that differ most.
enum Steps {
  static let all = ProcessInfo.processInfo.environment["REPLICATE_TEST_EVERY_STEP"] == "1"

  static func chosen(_ few: [String], else others: [String]) -> [String] { all ? few + others : few }
}
