import Clusters
import Foundation

/// A role that both ends have, for a test's own time. It is dropped last: nothing may depend on it by then.
enum SharedRole {
  /// - Parameter target: false when the test makes it there.
  static func with(
    _ name: String, target: Bool = true, isolation: isolated (any Actor)? = #isolation,
    _ body: (String) async throws -> Void
  ) async throws {
    let pair = try await ClusterPair.shared
    let role = "\(name)_\(getpid())"
    for server in target ? [pair.source, pair.target] : [pair.source] {
      try await SQLSession.run(["CREATE ROLE \(quotedIdentifier(role))"], on: server)
    }
    try await body(role)
    for server in [pair.source, pair.target] {
      try await SQLSession.run(["DROP ROLE IF EXISTS \(quotedIdentifier(role))"], on: server)
    }
  }
}
