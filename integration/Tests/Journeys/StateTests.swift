import Clusters
import LibPQ
import Logging
import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// What the state refuses to guess.
@Suite(.serialized, .servers, .timeLimit(.minutes(1)))
struct StateTests {
  private func withTarget(
    _ name: String, _ body: @Sendable (LibPQ.Connection) async throws -> Void
  ) async throws {
    try await ClusterPair.shared.withFreshDatabases(named: name) { databases in
      let connection = try await Session.open(
        LibPQ.ConnectionString(databases.target.text, for: "target"), end: "target", purpose: "test")
      try await body(connection)
      await connection.close()
    }
  }

  private func migration() -> StoredMigration {
    StoredMigration(
      phase: .schema, sourceSystem: "1", sourceDatabase: "1 app", slot: "replicate_1",
      publication: "replicate",
      excluded: [], targetBefore: [], encryption: .none, failure: nil, isAbortRequested: false,
      restoreAttempted: [],
      copySeconds: 0)
  }

  @Test("A table that is not in the list cannot be marked as copied")
  func markCopied() async throws {
    try await withTarget("mark") { connection in
      let store = StateStore(connection)
      try await store.create(migration())
      await #expect(throws: MigrationError.self) {
        try await store.markCopied([CopiedRelation(sourceOID: 4711, bytes: 1, rows: 1)], at: .zero)
      }
    }
  }

  @Test("What an engine said last does not make its successor ready")
  func successor() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "successor") { databases in
      let target = try LibPQ.ConnectionString(databases.target.text, for: "target")
      let observer = MigrationClient(
        source: nil, target: target, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      let first = try await Session.open(target, end: "target", purpose: "test")
      try await StateStore(first).create(migration())
      #expect(try await StateStore(first).tryLock())
      var status = Status(phase: .streaming)
      status.ready = true
      try await StateStore(first).publish(status)
      #expect(try await observer.status().ready)
      await first.close()
      let second = try await Session.open(target, end: "target", purpose: "test")
      try await waitUntil("the lock of the first") { try await StateStore(second).tryLock() }
      let now = try await observer.status()
      #expect(now.engine.running)
      #expect(!now.ready)
      await second.close()
    }
  }

  @Test("A cutover in a state that this version does not know is an error, not a request")
  func unknownCutover() async throws {
    try await withTarget("unknown") { connection in
      let store = StateStore(connection)
      try await store.create(migration())
      try await store.request(CutoverRequest(requestedBy: "a test"), in: [.schema])
      try await connection.query(
        """
        ALTER TABLE replicate.cutover DROP CONSTRAINT cutover_state_check;
        UPDATE replicate.cutover SET state = 'unheard of'
        """, doing: "changing the state")
      await #expect(throws: MigrationError.self) { try await store.latestCutover() }
    }
  }

  @Test("A fence whose state is missing or unknown is an error, not an open source")
  func unknownFence() async throws {
    try await withTarget("fence") { connection in
      let state = SourceState(connection)
      #expect(try await state.fence() == nil)
      try await state.create()
      #expect(try await state.fence() == .open)
      try await connection.query("SELECT replicate.note('fence', '[]')", doing: "deleting the state")
      await #expect(throws: MigrationError.self) { try await state.fence() }
    }
  }
}
