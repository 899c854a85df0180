import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Values that fill a whole message of the protocol, and what they cost the engine.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(10)))
struct LargeValueTests {
  /// Of one value; a full run takes 500.
  private static let megabytes =
    ProcessInfo.processInfo.environment["REPLICATE_VALUE_MB"].flatMap(Int.init) ?? 64

  @Test(
    "Case 35: large values in binary, and as text, where bytea doubles, arrive in a few times their size"
  )
  func values() async throws {
    try await Scene.run("largevalue") { scene in
      let size = Self.megabytes << 20
      try await scene.source(
        "CREATE TABLE as_binary (id int PRIMARY KEY, note text NOT NULL, value bytea NOT NULL)",
        // An object's name means another OID on the target, so that this table travels as text.
        "CREATE TABLE as_text (id int PRIMARY KEY, kind regclass, value bytea NOT NULL)",
        "ALTER TABLE as_binary ALTER value SET STORAGE EXTERNAL, ALTER note SET STORAGE EXTERNAL",
        "ALTER TABLE as_text ALTER value SET STORAGE EXTERNAL",
        "INSERT INTO as_binary SELECT 1, 'small', decode(repeat(md5('1'), \(size / 16)), 'hex')",
        "INSERT INTO as_binary SELECT 2, repeat('abcdefgh', \(size / 8)), 'small'",
        "INSERT INTO as_text SELECT 1, 'pg_class', decode(repeat(md5('2'), \(size / 16)), 'hex')")
      let engine = try await scene.start("--jobs", "1")
      try await scene.waitUntil("the copy's end", engine, within: .seconds(300)) {
        $0.phase == .streaming
      }
      // Twice the value is the largest row; libpq's buffer, its row and ours are three of them.
      let peak = try #require(engine.peakMemoryBytes)
      #expect(peak < 8 * size + (100 << 20), "the engine took \(peak) bytes at its peak")
      for (table, columns) in [
        ("as_binary", "id, length(note), md5(note), length(value), md5(value)"),
        ("as_text", "id, kind, length(value), md5(value)"),
      ] {
        let digest =
          "SELECT string_agg(r::text, ';' ORDER BY r) FROM (SELECT \(columns) FROM \(table)) AS r"
        let expected = try await scene.sourceValue(digest)
        #expect(expected != nil)
        #expect(try await scene.targetValue(digest) == expected)
      }
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(60)) == 0, "\(engine.errors)")
    }
  }
}
