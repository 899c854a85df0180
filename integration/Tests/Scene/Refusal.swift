import Clusters
import LibPQ
import Testing

/// Runs commands that must be refused, and proves that they say so and touch neither end.
struct Refusal: Sendable {
  /// The ends as a superuser sees them.
  let databases: (source: Clusters.ConnectionString, target: Clusters.ConnectionString)
  let replicate: ReplicateProcess
  /// Must not be shown to anyone.
  var secrets: [String] = []

  /// - Parameter words: each must be said, on either output.
  func expect(
    _ commands: [[String]], exitCode: Int32, words: [String],
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let ends = [databases.source, databases.target]
    var before: [[String]] = []
    for end in ends { before.append(try await EndContents.read(end)) }
    for command in commands {
      let run = try await replicate.run(command, limit: .seconds(60))
      let said = run.output + run.errors
      #expect(run.exitCode == exitCode, "\(command): \(said)", sourceLocation: sourceLocation)
      for word in words {
        #expect(
          said.contains(word), "\(command) does not say \(word): \(said)", sourceLocation: sourceLocation)
      }
      for secret in try secrets + ends.compactMap(Self.password) {
        #expect(!said.contains(secret), "\(command) shows a password", sourceLocation: sourceLocation)
      }
    }
    for (end, contents) in zip(ends, before) {
      try await EndContents.waitForLastSession(on: end)
      let difference = try await EndContents.read(end).difference(from: contents)
      #expect(difference.isEmpty, sourceLocation: sourceLocation)
    }
  }

  private static func password(_ server: Clusters.ConnectionString) throws -> String? {
    try LibPQ.ConnectionString(server.text, for: "end")["password"]
  }
}
