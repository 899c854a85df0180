import Clusters
import Testing

/// Everything that needs real servers, one suite after another: the suites share one pair of clusters, and
/// times measured beside another suite's load would mean nothing.
@Suite(.serialized)
enum Integration {}

extension Trait where Self == ConditionTrait {
  /// For a test that kills, stops or configures a server, or looks at its files.
  static var ownServers: Self {
    .enabled(
      if: ClusterPair.canKillServers,
      "needs servers of its own; REPLICATE_TEST_SOURCE and REPLICATE_TEST_TARGET give others")
  }
}
