import Clusters
import Testing

@testable import LibPQ

/// COPY and pipelines: what moves rows in bulk.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct BulkTests {
  private func withConnection<Result: Sendable>(
    _ body: (Connection, FreshDatabases) async throws -> Result
  ) async throws -> Result {
    try await ClusterPair.shared.withFreshDatabases(named: "bulk") { databases in
      let connection = try await connect(databases.source)
      try await connection.query(
        "CREATE TABLE t (a int PRIMARY KEY, b text)", doing: "preparing")
      let result = try await body(connection, databases)
      await connection.close()
      return result
    }
  }

  private func copyIn(_ chunks: [[UInt8]], to connection: Connection) async throws -> Int {
    try await connection.startCopyIn("COPY t FROM STDIN", doing: "copying t")
    for chunk in chunks { try await connection.writeCopy(chunk, doing: "copying t") }
    return try await connection.endCopy(doing: "copying t")
  }

  @Test(
    "What COPY reads on one end it writes the same on the other, huge rows included",
    arguments: [1, 1 << 20])
  func roundTrip(limit: Int) async throws {
    try await withConnection { source, databases in
      try await source.query(
        """
        INSERT INTO t SELECT n, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE repeat('é\\', n % 200) END
        FROM generate_series(1, 20000) n;
        INSERT INTO t VALUES (0, repeat('0123456789', 3000000))
        """, doing: "filling t")
      let target = try await connect(databases.target, end: "target")
      try await target.query("CREATE TABLE t (a int PRIMARY KEY, b text)", doing: "preparing")
      try await source.startCopyOut("COPY t TO STDOUT (FORMAT binary)", doing: "copying t")
      try await target.startCopyIn("COPY t FROM STDIN (FORMAT binary)", doing: "copying t")
      var chunk = try await source.readCopy(reusing: [], limit: limit, doing: "copying t")
      try await target.writeCopy(chunk.bytes, doing: "copying t")
      while chunk.finalRows == nil {
        chunk = try await source.readCopy(reusing: chunk.bytes, limit: limit, doing: "copying t")
        try await target.writeCopy(chunk.bytes, doing: "copying t")
      }
      #expect(chunk.finalRows == 20001)
      #expect(try await target.endCopy(doing: "copying t") == 20001)
      let digest = "SELECT md5(string_agg(md5(t::text), '' ORDER BY a)) AS digest FROM t"
      let expected = try await source.query(digest, doing: "digesting").first?.text("digest")
      #expect(try await target.query(digest, doing: "digesting").first?.text("digest") == expected)
      await target.close()
    }
  }

  @Test("A chunk ends with the row that reaches the limit")
  func limit() async throws {
    try await withConnection { connection, _ in
      let sql = "COPY (SELECT repeat('x', 9) FROM generate_series(1, 100)) TO STDOUT"
      try await connection.startCopyOut(sql, doing: "copying")
      var sizes: [Int] = []
      while true {
        let chunk = try await connection.readCopy(reusing: [], limit: 25, doing: "copying")
        sizes.append(chunk.bytes.count)
        guard chunk.finalRows == nil else { break }
      }
      #expect(sizes == Array(repeating: 30, count: 33) + [10])
    }
  }

  @Test("A COPY that fails on the way out says why, and the connection goes on")
  func failingCopyOut() async throws {
    try await withConnection { connection, _ in
      let sql = "COPY (SELECT 1 / (5000 - n) FROM generate_series(1, 10000) n) TO STDOUT"
      try await connection.startCopyOut(sql, doing: "copying")
      let error = await #expect(throws: PostgresError.self) {
        while try await connection.readCopy(reusing: [], limit: 100, doing: "copying").finalRows == nil {}
      }
      #expect(error?.sqlState?.rawValue == "22012")
      _ = try await connection.processID()
    }
  }

  @Test("A COPY that fails on the way in says why without the row, and the connection goes on")
  func failingCopyIn() async throws {
    try await withConnection { connection, _ in
      let duplicate = await #expect(throws: PostgresError.self) {
        try await copyIn([Array("1\thunter2\n1\thunter2\n".utf8)], to: connection)
      }
      #expect(duplicate?.sqlState?.rawValue == "23505")
      let malformed = await #expect(throws: PostgresError.self) {
        try await copyIn([Array("1\ta\thunter2\n".utf8)], to: connection)
      }
      #expect(malformed?.sqlState?.rawValue == "22P04")
      let noNumber = await #expect(throws: PostgresError.self) {
        try await copyIn([Array("hunter2\ta\n".utf8)], to: connection)
      }
      for error in [duplicate, malformed, noNumber] {
        #expect(error?.description.contains("hunter2") == false)
      }
      // A chunk need not end with a row.
      let rows = try await copyIn([Array("1\ta".utf8), Array("b\n2\t\\N\n".utf8)], to: connection)
      #expect(rows == 2)
    }
  }

  @Test("Data that is sent on after the server gave up does not block")
  func sendingToAFailedCopy() async throws {
    try await withConnection { connection, _ in
      let chunk = Array(repeating: UInt8(ascii: "x"), count: 1 << 20)
      let error = await #expect(throws: PostgresError.self) {
        try await copyIn(
          [Array("no number\ta\n".utf8)] + Array(repeating: chunk, count: 32), to: connection)
      }
      #expect(error?.sqlState?.rawValue == "22P02")
      _ = try await connection.processID()
    }
  }

  @Test("A backend that is terminated in a COPY is a connection loss, and no data goes on into nothing")
  func terminatedCopyIn() async throws {
    try await withConnection { connection, databases in
      let processID = try await connection.processID()
      try await connection.startCopyIn("COPY t FROM STDIN", doing: "copying t")
      let observer = try await SQLSession(databases.source)
      try await observer.execute("SELECT pg_terminate_backend(\(processID), 5000)")
      await observer.close()
      let chunk = Array(repeating: UInt8(ascii: "x"), count: 1 << 20)
      let error = await #expect(throws: PostgresError.self) {
        for _ in 1...1000 { try await connection.writeCopy(chunk, doing: "copying t") }
      }
      #expect(error?.isConnectionLoss == true)
    }
  }

  @Test("A batch whose statement cannot be prepared says why, and can be rolled back")
  func unpreparable() async throws {
    try await withConnection { connection, _ in
      try await connection.query("BEGIN", doing: "beginning")
      let calls = [(Self.insert, ["1", nil]), ("INSERT INTO missing VALUES ($1)", ["2"])]
      let error = await #expect(throws: PostgresError.self) {
        try await connection.execute(batch(calls), doing: "applying")
      }
      #expect(error?.sqlState == .undefinedTable)
      #expect(error?.isConnectionLoss == false)
      await connection.rollback()
      try await connection.execute(batch([(Self.insert, ["1", nil])]), doing: "applying")
    }
  }

  private static let insert = "INSERT INTO t VALUES ($1, $2)"
  private static let update = "UPDATE t SET b = $2 WHERE a = $1"

  private func batch(_ calls: [(sql: String, parameters: [String?])]) -> StatementBatch {
    var batch = StatementBatch()
    for call in calls {
      for parameter in call.parameters {
        if let parameter { batch.append(parameter) } else { batch.appendNull() }
      }
      batch.call(call.sql, expectedRows: 1)
    }
    return batch
  }

  @Test("A batch runs its calls in order, statements prepared before included")
  func batches() async throws {
    try await withConnection { connection, _ in
      for round in 0..<3 {
        let key = "\(round)"
        let calls = [(Self.insert, [key, nil]), (Self.update, [key, "é'\""])]
        try await connection.execute(batch(calls), doing: "applying")
      }
      let rows = try await connection.query("SELECT a FROM t WHERE b = 'é''\"'", doing: "reading")
      #expect(rows.count == 3)
      try await connection.execute(StatementBatch(), doing: "applying nothing")
      let some = batch((10..<20).map { (Self.insert, ["\($0)", nil]) })
      try await connection.execute(some, 2..<5, doing: "applying a part")
      let part = try await connection.query("SELECT a FROM t WHERE a >= 10 ORDER BY a", doing: "reading")
      #expect(try part.map { try $0.integer("a") } == [12, 13, 14])
    }
  }

  @Test("Case 56: a call that touches another number of rows is named, and can be rolled back")
  func rowMismatch() async throws {
    try await withConnection { connection, _ in
      let calls = [(Self.insert, ["1", nil]), (Self.update, ["2", "x"]), (Self.insert, ["3", nil])]
      try await connection.query("BEGIN", doing: "beginning")
      let failure = await #expect(throws: BatchFailure.self) {
        try await connection.execute(batch(calls), doing: "applying")
      }
      #expect(failure?.call == 1)
      guard case .rows(expected: 1, affected: 0) = failure?.reason else {
        Issue.record("another reason: \(String(describing: failure))")
        return
      }
      await connection.rollback()
      #expect(try await connection.query("SELECT FROM t", doing: "reading").isEmpty)
    }
  }

  @Test(
    "The call that the server refuses is named wherever it is, and can be rolled back",
    arguments: [0, 4999, 9999])
  func refusal(position: Int) async throws {
    try await withConnection { connection, _ in
      var calls = (0..<10000).map { (Self.insert, ["\($0)", "x"] as [String?]) }
      calls[position].1[0] = "hunter2"
      try await connection.query("BEGIN", doing: "beginning")
      let failure = await #expect(throws: BatchFailure.self) {
        try await connection.execute(batch(calls), doing: "applying to t")
      }
      #expect(failure?.call == position)
      guard case .refused(let error) = failure?.reason else {
        Issue.record("another reason: \(String(describing: failure))")
        return
      }
      #expect(error.sqlState?.rawValue == "22P02")
      #expect(error.description.contains("applying to t") && !error.description.contains("hunter2"))
      await connection.rollback()
      try await connection.execute(batch([(Self.insert, ["1", nil])]), doing: "applying")
    }
  }

  @Test("Case 47: a pipeline of 100,000 statements neither blocks nor loses one")
  func manyStatements() async throws {
    try await withConnection { connection, _ in
      let text = String(repeating: "x", count: 200)
      let calls = (0..<100_000).map { (Self.insert, ["\($0)", text] as [String?]) }
      try await connection.query("BEGIN", doing: "beginning")
      try await connection.execute(batch(calls), doing: "applying")
      try await connection.query("COMMIT", doing: "committing")
      let count = try await connection.query("SELECT count(*) AS n FROM t", doing: "counting")
      #expect(try count.first?.integer("n") == 100_000)
    }
  }

  @Test("Case 47: answers that are larger than any socket's buffer do not block the pipeline")
  func largeAnswers() async throws {
    try await withConnection { connection, _ in
      let sql = "SELECT repeat($1, 1000)"
      let calls = (0..<3000).map { _ in (sql, [String(repeating: "y", count: 100)] as [String?]) }
      try await connection.execute(batch(calls), doing: "reading much")
      _ = try await connection.processID()
    }
  }

  @Test("Cancelling the task ends a pipeline")
  func cancellation() async throws {
    try await withConnection { connection, databases in
      let processID = try await connection.processID()
      let batch = batch([("SELECT pg_sleep(60)", [])])
      let task = Task { try await connection.execute(batch, doing: "applying") }
      let observer = try await SQLSession(databases.source)
      try await observer.waitUntilActive(processID, "pg_sleep")
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      await observer.close()
    }
  }
}
