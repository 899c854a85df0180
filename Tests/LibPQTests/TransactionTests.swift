import LibPQ
import Testing

/// A transaction that did not commit never looks as if it had.
@Suite(.timeLimit(.minutes(1)))
struct TransactionTests {
  private struct Failure: Error {}

  private static let answers: [String: FakeServer.Answer] = [
    "BEGIN": .messages([BackendMessage.complete("BEGIN"), BackendMessage.readyInTransaction]),
    "WRITE": .messages([BackendMessage.complete("UPDATE 1"), BackendMessage.readyInTransaction]),
    "COMMIT": .messages([BackendMessage.complete("COMMIT"), BackendMessage.ready]),
    "ROLLBACK": .messages([BackendMessage.complete("ROLLBACK"), BackendMessage.ready]),
  ]

  @Test func `commits what returned`() async throws {
    let server = try FakeServer(Self.answers)
    let connection = try await server.connect()
    let result = try await connection.transaction(doing: "working") { connection in
      try await connection.query("WRITE", doing: "writing").affected
    }
    #expect(result == 1)
    #expect(server.received == ["BEGIN", "WRITE", "COMMIT"])
  }

  @Test func `rolls back what threw`() async throws {
    let server = try FakeServer(Self.answers)
    let connection = try await server.connect()
    await #expect(throws: Failure.self) {
      try await connection.transaction(doing: "working") { connection in
        try await connection.query("WRITE", doing: "writing")
        throw Failure()
      }
    }
    #expect(server.received == ["BEGIN", "WRITE", "ROLLBACK"])
  }

  @Test func `rolls back when the task was cancelled before the commit`() async throws {
    let server = try FakeServer(Self.answers)
    let connection = try await server.connect()
    let task = Task {
      try await connection.transaction(doing: "working") { connection in
        try await connection.query("WRITE", doing: "writing")
        withUnsafeCurrentTask { $0?.cancel() }
      }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(server.received == ["BEGIN", "WRITE", "ROLLBACK"])
  }

  @Test func `a COMMIT that the server answers with ROLLBACK is an error`() async throws {
    var answers = Self.answers
    answers["COMMIT"] = .messages([BackendMessage.complete("ROLLBACK"), BackendMessage.ready])
    let server = try FakeServer(answers)
    let connection = try await server.connect()
    let error = await #expect(throws: PostgresError.self) {
      try await connection.transaction(doing: "working") { connection in
        // Its failure is swallowed: only the COMMIT's answer shows it.
        try await connection.query("WRITE", doing: "writing")
      }
    }
    #expect(error?.code == .unexpectedResult)
    #expect(try #require(error).description.contains("working"))
  }

  @Test func `a commit that is refused is the error, and nothing is left open`() async throws {
    var answers = Self.answers
    let refusal = BackendMessage.error(["S": "ERROR", "C": "23503", "M": "violates a foreign key"])
    answers["COMMIT"] = .messages([refusal, BackendMessage.ready])
    let server = try FakeServer(answers)
    let connection = try await server.connect()
    let error = await #expect(throws: PostgresError.self) {
      try await connection.transaction(doing: "working") { _ in }
    }
    #expect(error?.sqlState?.rawValue == "23503")
    #expect(server.received == ["BEGIN", "COMMIT"])
  }
}
