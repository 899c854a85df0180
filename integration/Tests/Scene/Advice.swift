import Clusters
import Foundation
import Testing

@testable import MigrationEngine

extension Scene {
  /// The statements that the status advises for the target, in their order.
  static func advice(_ waitsFor: String) -> [String] {
    waitsFor.split(separator: "\n").compactMap { line in
      ["CREATE SEQUENCE ", "ALTER TABLE ", "DROP TABLE "].compactMap { line.range(of: $0)?.lowerBound }.min()
        .map { String(line[$0...]) }
    }
  }

  /// Waits until the status advises something that contains `part`, and does what it says, to the letter, and
  /// what it says then, until nothing is left to do.
  func followAdvice(_ part: String, _ engine: BackgroundProcess) async throws {
    try await waitUntil("advice: \(part)", engine) {
      $0.stream.waitsFor.map { Self.advice($0).contains { $0.contains(part) } } ?? false && !$0.ready
    }
    var done: Set<String> = []
    let deadline = ContinuousClock.now + .seconds(60)
    while ContinuousClock.now < deadline {
      let status = try await status()
      guard let waitsFor = status.stream.waitsFor else { break }
      for statement in Self.advice(waitsFor) where done.insert(statement).inserted {
        try await target(statement)
      }
    }
    try await waitUntilReady(engine)
  }
}
