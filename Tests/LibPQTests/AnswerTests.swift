import Testing

@testable import LibPQ

/// What answers become: rows, and errors that have names but no values.
@Suite(.timeLimit(.minutes(1)))
struct AnswerTests {
  private func rows(_ messages: [UInt8]...) async throws -> Rows {
    let server = try FakeServer(["SELECT": .messages(messages + [BackendMessage.ready])])
    return try await server.connect().query("SELECT", doing: "asking")
  }

  private func error(
    _ fields: KeyValuePairs<Character, String>, doing action: String = "asking"
  ) async throws -> PostgresError {
    let server = try FakeServer([
      "SELECT": .messages([BackendMessage.error(fields), BackendMessage.ready])
    ])
    let connection = try await server.connect()
    let error = await #expect(throws: PostgresError.self) {
      try await connection.query("SELECT", doing: action)
    }
    return try #require(error)
  }

  @Test func `columns are read by name`() async throws {
    let rows = try await rows(
      BackendMessage.columns("text", "number", "ratio", "yes", "nothing"),
      BackendMessage.row("é", "-9223372036854775808", "0.25", "t", nil),
      BackendMessage.row("", "7", "NaN", "off", nil), BackendMessage.complete("SELECT 2"))
    #expect(rows.count == 2)
    #expect(rows.affected == 2)
    #expect(try rows[0].text("text") == "é")
    #expect(try rows[0].integer("number", as: Int64.self) == .min)
    #expect(try rows[0].double("ratio") == 0.25)
    #expect(try rows[0].bool("yes"))
    #expect(try !rows[1].bool("yes"))
    #expect(try rows[1].text("text") == "")
    #expect(try rows[1].optional("nothing") == nil)
    #expect(try rows.map { try $0.double("ratio").isNaN } == [false, true])
  }

  @Test func `a value that is not what was asked for is an error that does not show it`() async throws {
    let rows = try await rows(
      BackendMessage.columns("word", "big", "nothing"), BackendMessage.row("hunter2", "300", nil),
      BackendMessage.complete("SELECT 1"))
    let row = try #require(rows.first)
    let failures = [
      #expect(throws: PostgresError.self) { try row.text("missing") },
      #expect(throws: PostgresError.self) { try row.text("nothing") },
      #expect(throws: PostgresError.self) { try row.integer("word") },
      #expect(throws: PostgresError.self) { try row.integer("big", as: Int8.self) },
      #expect(throws: PostgresError.self) { try row.integer("big", as: UInt8.self) },
      #expect(throws: PostgresError.self) { try row.bool("word") },
      #expect(throws: PostgresError.self) { try row.double("word") },
    ]
    for (failure, name) in zip(failures, ["missing", "nothing", "word", "big", "big", "word", "word"]) {
      #expect(failure?.code == .unexpectedResult)
      let description = try #require(failure).description
      #expect(description.contains("\"\(name)\""))
      #expect(!description.contains("hunter2"))
    }
  }

  @Test func `rows that a command touched are counted`() async throws {
    #expect(try await rows(BackendMessage.complete("UPDATE 42")).affected == 42)
    #expect(try await rows(BackendMessage.complete("INSERT 0 5")).affected == 5)
    #expect(try await rows(BackendMessage.complete("CREATE TABLE")).affected == 0)
  }

  @Test func `a refusal carries what the server said and what was being done`() async throws {
    let error = try await error(
      [
        "S": "ERROR", "V": "ERROR", "C": "42P01", "M": "relation \"a\" does not exist", "D": "a detail",
        "H": "a hint", "s": "public", "t": "a",
      ], doing: "counting \"a\"")
    #expect(error.code == .server)
    #expect(error.sqlState == .undefinedTable)
    #expect(error.detail == "a detail")
    #expect(error.hint == "a hint")
    #expect(!error.isConnectionLoss)
    let description = error.description
    for part in [
      "source", "counting \"a\"", "relation \"a\" does not exist", "42P01", "a detail", "a hint",
      "schema public", "table a",
    ] { #expect(description.contains(part), "\(description)") }
    #expect(error.during("copying").description.hasPrefix("copying: source: counting"))
  }

  @Test(arguments: [
    ("22P02", "invalid input syntax for type integer: \"hunter2\"", "invalid input syntax for type integer"),
    ("22003", "value \"hunter2\" is out of range for type integer", "is out of range for type integer"),
    ("22003", "value \"a:hunter2\" is out of range for type integer", "is out of range for type integer"),
    ("22P02", "\"hunter2\" is not a valid binary digit", "is not a valid binary digit"),
    ("22P02", "invalid input syntax for type json: a \"b\" hunter2", "invalid input syntax for type json"),
    ("22003", "Wert »hunter2« ist außerhalb des Bereichs", "ist außerhalb des Bereichs"),
    ("22003", "la valeur « hunter2 » est en dehors des limites", "est en dehors des limites"),
    (
      "22003", "value \"\u{301}hunter2\" is out of range for type integer", "is out of range for type integer"
    ),
    ("22001", "value too long for type character varying(3)", "value too long for type character varying(3)"),
    ("23505", "duplicate key value violates unique constraint \"orders_pkey\"", "\"orders_pkey\""),
    ("23514", "no partition of relation \"orders\" found for row", "\"orders\""),
  ])
  func `data errors name the kind of error, and no value`(
    state: String, message: String, shown: String
  ) async throws {
    let error = try await error([
      "S": "ERROR", "C": state, "M": message, "D": "Key (id)=(hunter2) already exists.", "n": "orders_pkey",
      "W": "COPY orders, line 1, column a: \"hunter2\"", "q": "SELECT 'hunter2'",
    ])
    #expect(error.sqlState?.rawValue == state)
    #expect(error.description.contains(shown), "\(error)")
    #expect(error.description.contains("constraint orders_pkey"))
    #expect(!error.description.contains("hunter2"), "\(error)")
  }

  @Test(arguments: [
    ("57P01", true), ("57P02", true), ("57P03", true), ("08006", true), ("57014", false), ("40P01", false),
    ("25006", false), ("23505", false), ("53300", false),
  ])
  func `only what cost the connection is a connection loss`(state: String, isLoss: Bool) async throws {
    let error = try await error(["S": "ERROR", "C": state, "M": "no"])
    #expect(error.isConnectionLoss == isLoss)
  }

  @Test func `a text with a zero byte is refused instead of being cut`() async throws {
    let server = try FakeServer()
    let connection = try await server.connect()
    await #expect(throws: PostgresError.self) {
      try await connection.query("DELETE FROM a\0 WHERE b", doing: "deleting")
    }
    await #expect(throws: PostgresError.self) {
      try await connection.query("SELECT $1", ["a\0b"], doing: "asking")
    }
    #expect(server.received.isEmpty)
  }
}
