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
      try await Journey.run("everything") { journey in
        for script in EverythingDatabase.statements(role: role) {
          try await run(script, on: journey.databases.source)
        }
        let expected = try await SchemaDump.expected(on: journey.databases)
        let engine = try await journey.start("--replica-identity", "full")
        try await journey.waitUntilReady(engine)
        let cutover = try await journey.replicate.run("cutover", "--yes")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        try await journey.target("DROP SCHEMA replicate CASCADE")
        let found = try await SchemaDump.entries(of: journey.databases.target)
        #expect(expected.count > 250)
        #expect(expected.subtracting(found) == [], "only on the source")
        #expect(found.subtracting(expected) == [], "only on the target")
        let differences = try await DatabaseComparison().differences(
          source: journey.databases.source, target: journey.databases.target)
        #expect(differences == [])
        let largeObjects = try await journey.largeObjects(.source)
        #expect(largeObjects.count == 3)
        #expect(try await journey.largeObjects(.target) == largeObjects)
      }
    }
  }

  private func run(_ script: String, on server: Clusters.ConnectionString) async throws {
    let connection = try await Session.open(
      LibPQ.ConnectionString(server.text, for: "source"), end: "source", purpose: "test")
    try await connection.query(
      "SET search_path = public; " + script, doing: "making what begins with \(script.prefix(40))")
    await connection.close()
  }
}
