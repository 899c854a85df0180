import Foundation

/// Servers of other versions than the one that the tests run on.
package enum Versions {
  /// A line with `/*15+*/` is for servers of version 15 and newer, one with `/*15-*/` for those before, and
  /// one with `/*ICU*/` for pairs of servers that both have ICU's collations. PyPI's have not, and find no
  /// library for uuid-ossp either.
  package static func isMarked(_ sql: String) -> Bool { sql.contains(/\/\*(\d+[+-]|ICU)\*\//) }

  /// The lines of `sql` that a server of version `major` is to have.
  package static func fitting(_ sql: String, major: Int) async throws -> String {
    let hasICU = sql.contains("/*ICU*/") ? try await ClusterPair.hasICU() : true
    return sql.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
      line.matches(of: /\/\*(?:(\d+)([+-])|ICU)\*\//).allSatisfy { mark in
        guard let limit = mark.output.1.flatMap({ Int($0) }) else { return hasICU }
        return (major >= limit) == (mark.output.2 == "+")
      }
    }.joined(separator: "\n")
  }

  /// The folder of the programs of a version, as `15` or `15.20`; fetched where it is not there yet.
  /// - Throws: `HarnessError` with the reason why it cannot be had.
  package static func programs(of version: String) async throws -> String {
    let line = try await Command.check([TestRoot.script("versions"), version], limit: .seconds(300))
    guard let folder = line.split(separator: "\t").dropFirst(2).first else {
      throw HarnessError("integration/versions \(version) says: \(line)")
    }
    return folder.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Runs `body` with servers of two versions, a source and a target, which are gone afterwards.
  package static func withPair(
    _ source: String, _ target: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (ClusterPair, _ targetPrograms: String) async throws -> Void
  ) async throws {
    let programs = (try await programs(of: source), try await programs(of: target))
    let clusters = [
      try await Cluster(named: "source-\(source)", .init(programs: programs.0)),
      try await Cluster(named: "target-\(target)", .init(programs: programs.1)),
    ]
    do {
      for cluster in clusters { try await cluster.start() }
      try await body(ClusterPair(source: clusters[0], target: clusters[1]), programs.1)
    } catch {
      for cluster in clusters { try await cluster.destroy() }
      throw error
    }
    for cluster in clusters { try await cluster.destroy() }
  }
}
