import Clusters
import LibPQ
import Testing

@testable import MigrationEngine

/// The target's door: shut to everybody but the stream until the source is sealed.
@Suite(.serialized, .servers, .timeLimit(.minutes(1)))
struct TargetFenceTests {
  @Test("Closed, it refuses everybody but the replica role; open, it lets all pass; removed, it is gone")
  func door() async throws {
    try await Scene.fenced("door") { scene in
      try await scene.createWritableTables()
      let door = TargetFence(try await scene.connection(.source))
      let write = Attempt("UPDATE keyed SET v = 1")
      let stream = Attempt("UPDATE keyed SET v = 2", settings: ["session_replication_role": "replica"])
      await #expect(throws: MigrationError.self) { try await door.isOpen() }

      try await door.close()
      #expect(try await !door.isOpen())
      #expect(try await scene.refusal(of: write) == "25006")
      #expect(try await scene.refusal(of: Attempt("TRUNCATE parted_a")) == "25006")
      #expect(try await scene.refusal(of: stream) == nil)

      // Again, as an engine that was killed in the middle does.
      try await scene.source("DROP TRIGGER replicate_closed ON keyed")
      try await door.close()
      #expect(try await scene.refusal(of: write) == "25006")

      try await door.open()
      #expect(try await door.isOpen())
      #expect(try await scene.refusal(of: write) == nil)

      try await door.remove()
      #expect(try await scene.sourceValue("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == "0")
      #expect(try await scene.sourceValue("SELECT to_regprocedure('replicate.closed()')") == nil)
    }
  }

  @Test("A door that somebody changed is neither open nor closed")
  func changed() async throws {
    try await Scene.fenced("changed") { scene in
      let door = TargetFence(try await scene.connection(.source))
      try await door.close()
      try await scene.source(
        """
        CREATE OR REPLACE FUNCTION replicate.closed() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN RETURN NEW; END'
        """)
      await #expect(throws: MigrationError.self) { try await door.isOpen() }
    }
  }
}
