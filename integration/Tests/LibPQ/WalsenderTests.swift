import Clusters
import Testing

@testable import LibPQ
@testable import LogicalReplication

/// The two leaves together: what LibPQ receives from a walsender LogicalReplication decodes.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct WalsenderTests {
  private func withStream(
    streaming: PgOutputStreaming = .off,
    _ body: (Connection, SQLSession, SlotName) async throws -> Void
  ) async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "walsender") { databases in
      let session = try await SQLSession(databases.source)
      try await session.execute("CREATE TABLE t (a int PRIMARY KEY, b text)")
      try await session.execute("CREATE PUBLICATION p FOR TABLE t")
      let slot = try #require(SlotName(databases.name))
      let stream = try await connect(
        databases.source,
        settings: ["replication": "database", "options": "-c logical_decoding_work_mem=64kB"])
      let created = try await stream.query(ReplicationCommand.createSlot(slot), doing: "creating a slot")
      let point = try #require(created.first).text("consistent_point")
      let start = try #require(LSN(point))
      let isOld = try await ClusterPair.sourceMajor() < 14
      var options = PgOutputOptions(version: isOld ? .one : .two, publications: ["p"])
      options.messages = !isOld
      options.streaming = streaming
      try await stream.startCopyBoth(
        ReplicationCommand.start(slot: slot, at: start, options: options), doing: "streaming")
      try await body(stream, session, slot)
      await stream.close()
      await session.close()
    }
  }

  /// Reads until a message satisfies `isLast`.
  private func read(
    _ stream: Connection, streaming: PgOutputStreaming = .off, until isLast: (PgOutputMessage) -> Bool
  ) async throws -> [PgOutputMessage] {
    var decoder = PgOutputDecoder(version: .two, streaming: streaming)
    var messages: [PgOutputMessage] = []
    while true {
      let received = try await stream.receiveMessages(
        limit: 1 << 16, patience: .seconds(20), doing: "streaming")
      try #require(!received.messages.isEmpty, "nothing came: \(messages)")
      for range in received.messages {
        let frame = try received.bytes.withUnsafeBytes { try ReplicationFrame($0, range) }
        guard case .xLogData(let data) = frame else { continue }
        let message = try received.bytes.withUnsafeBytes { try decoder.decode($0, data.payload) }
        messages.append(message)
        if isLast(message) { return messages }
      }
    }
  }

  @Test("A transaction arrives message by message, and what is confirmed the server knows")
  func transaction() async throws {
    try await withStream { stream, session, slot in
      try await session.execute(
        "INSERT INTO t VALUES (1, 'x') \\; UPDATE t SET b = NULL \\; DELETE FROM t \\; "
          + "TRUNCATE t \\; SELECT pg_logical_emit_message(true, 'replicate', 'marker')")
      let messages = try await read(stream) { if case .commit = $0 { true } else { false } }
      let kinds = messages.map { String("\($0)".prefix { $0 != "(" }) }
      // A relation is sent again whenever its definition may have changed.
      #expect(kinds.dropFirst().first == "relation")
      #expect(
        try await kinds.filter { $0 != "relation" }
          == ["begin", "insert", "update", "delete", "truncate"]
          // PostgreSQL 13's pgoutput passes on no message.
          + (ClusterPair.sourceMajor() < 14 ? [] : ["logicalMessage"]) + ["commit"])
      guard case .commit(let commit) = messages.last else { return }
      let update = StandbyStatusUpdate(
        writtenLSN: commit.endLSN, flushedLSN: commit.endLSN, appliedLSN: commit.endLSN,
        clock: PostgresTime(microseconds: 0))
      try await stream.sendMessage(update.encoded, doing: "confirming")
      let confirmed = """
        SELECT 1 FROM pg_replication_slots WHERE slot_name = '\(slot)'
        AND confirmed_flush_lsn = '\(commit.endLSN)'
        """
      try await waitUntil("the confirmation") { try await !session.rows(confirmed).isEmpty }
    }
  }

  @Test(
    "A large transaction is streamed before it commits, and a rolled back part is announced",
    .source(atLeast: 14))
  func streamedTransaction() async throws {
    try await withStream(streaming: .on) { stream, session, _ in
      let fill = "INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series"
      try await session.execute(
        "BEGIN \\; \(fill)(1, 3000) n \\; SAVEPOINT s \\; \(fill)(3001, 6000) n \\; "
          + "ROLLBACK TO s \\; INSERT INTO t VALUES (9999) \\; COMMIT")
      let messages = try await read(stream, streaming: .on) {
        if case .streamCommit = $0 { true } else { false }
      }
      let starts = messages.count { if case .streamStart = $0 { true } else { false } }
      let stops = messages.count { $0 == .streamStop }
      let aborts = messages.count { if case .streamAbort = $0 { true } else { false } }
      #expect(starts > 1 && starts == stops)
      #expect(aborts == 1)
      let inserts = messages.count { if case .insert(let insert) = $0 { insert.xid != nil } else { false } }
      #expect(inserts >= 3001)
    }
  }

  @Test("A quiet stream gives nothing and stays usable; a server that ends it is a connection loss")
  func quietAndEnded() async throws {
    try await withStream { stream, session, slot in
      // The first keepalives may still be on their way.
      try await waitUntil("silence") {
        try await stream.receiveMessages(limit: 1, patience: .milliseconds(200), doing: "streaming")
          .messages.isEmpty
      }
      try await session.execute("INSERT INTO t VALUES (1)")
      _ = try await read(stream) { if case .commit = $0 { true } else { false } }
      try await session.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '\(slot)'")
      let error = await #expect(throws: PostgresError.self) {
        while true {
          let received = try await stream.receiveMessages(
            limit: 1, patience: .seconds(20), doing: "streaming")
          if received.isEnded || received.messages.isEmpty { return }
        }
      }
      #expect(error?.isConnectionLoss == true)
    }
  }

  @Test("Streaming from a slot that is not there is refused with its name")
  func missingSlot() async throws {
    let source = try await ClusterPair.shared.source
    let stream = try await connect(source, settings: ["replication": "database"])
    let slot = try #require(SlotName("no_such_slot"))
    let command = ReplicationCommand.start(
      slot: slot, at: .zero, options: PgOutputOptions(version: .one, publications: ["p"]))
    let error = await #expect(throws: PostgresError.self) {
      try await stream.startCopyBoth(command, doing: "streaming from \(slot)")
    }
    #expect(error?.sqlState == .undefinedObject)
    #expect(try #require(error).description.contains("no_such_slot"))
    await stream.close()
  }
}
