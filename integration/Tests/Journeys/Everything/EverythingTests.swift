import Clusters
import Foundation
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// Whatever pg_dump and pg_restore move without error, this moves too, object by object.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct EverythingTests {
  @Test("A database that has everything arrives whole: schema, rows, sequences, large objects")
  func everything() async throws {
    try await SharedRole.with("everything") { role in
      try await Scene.run("everything") { scene in
        for script in EverythingDatabase.statements(role: role) {
          try await run(script, on: scene.databases.source)
        }
        let expected = try await SchemaDump.expected(on: scene.databases)
        let engine = try await scene.start("--replica-identity", "full")
        try await scene.waitUntilReady(engine)
        let cutover = try await scene.replicate.run("cutover", "--yes")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        try await scene.target("DROP SCHEMA replicate CASCADE")
        let found = try await SchemaDump.entries(of: scene.databases.target)
        #expect(expected.count > 250)
        #expect(expected.subtracting(found) == [], "only on the source")
        #expect(found.subtracting(expected) == [], "only on the target")
        let differences = try await DatabaseComparison().differences(
          source: scene.databases.source, target: scene.databases.target)
        #expect(differences == [])
        let largeObjects = try await scene.largeObjects(.source)
        #expect(largeObjects.count == 3)
        #expect(try await scene.largeObjects(.target) == largeObjects)
      }
    }
  }

  private func run(_ script: String, on server: Clusters.ConnectionString) async throws {
    let connection = try await Session.open(
      LibPQ.ConnectionString(server.text, for: "source"), end: "source", purpose: "test")
    let fitting = try await Versions.fitting(script, major: connection.serverVersion() / 10_000)
    try await connection.query(
      "SET search_path = public; " + fitting, doing: "making what begins with \(script.prefix(40))")
    await connection.close()
  }
}
