import LibPQ
import Testing

/// Waits end: at a time limit, by cancelling the task, and when the server misbehaves.
@Suite(.timeLimit(.minutes(1)))
struct InterruptionTests {
  @Test func `a statement past its time limit is cancelled, and the connection goes on`() async throws {
    let refusal = BackendMessage.error(["S": "ERROR", "C": "57014", "M": "canceling statement"])
    let server = try FakeServer(["SLOW": .afterCancel([refusal, BackendMessage.ready])])
    let connection = try await server.connect()
    let error = await #expect(throws: PostgresError.self) {
      try await connection.query("SLOW", doing: "waiting", within: .milliseconds(100))
    }
    #expect(error?.code == .timedOut)
    #expect(try #require(error).description.contains("source: waiting"))
    try await connection.query("NEXT", doing: "going on")
    #expect(server.received == ["SLOW", "NEXT"])
  }

  @Test func `cancelling the task cancels the statement, and the connection goes on`() async throws {
    let refusal = BackendMessage.error(["S": "ERROR", "C": "57014", "M": "canceling statement"])
    let server = try FakeServer(["SLOW": .afterCancel([refusal, BackendMessage.ready])])
    let connection = try await server.connect()
    let task = Task { try await connection.query("SLOW", doing: "waiting") }
    try await reached("SLOW", server)
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    try await connection.query("NEXT", doing: "going on")
  }

  @Test func `a server that does not answer the cancel request either holds up nobody`() async throws {
    let server = try FakeServer(["SLOW": .never])
    let connection = try await server.connect()
    let began = ContinuousClock.now
    let error = await #expect(throws: PostgresError.self) {
      try await connection.query("SLOW", doing: "waiting", within: .milliseconds(100))
    }
    #expect(error?.code == .timedOut)
    #expect(ContinuousClock.now - began < .seconds(20))
    // What the server makes of the statement is unknown, so the connection has no further use.
    await #expect(throws: PostgresError.self) { try await connection.query("NEXT", doing: "going on") }
    server.stop()
  }

  @Test func `a COPY that begins while it is being cancelled ends with the connection`() async throws {
    let server = try FakeServer(["COPY": .afterCancel([BackendMessage.copyOut])])
    let connection = try await server.connect()
    let task = Task { try await connection.startCopyOut("COPY", doing: "copying") }
    try await reached("COPY", server)
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    await #expect(throws: PostgresError.self) { try await connection.query("NEXT", doing: "going on") }
  }

  @Test func `a COPY that nobody asked for is an error and ends the connection`() async throws {
    let server = try FakeServer(["COPY": .messages([BackendMessage.copyOut])])
    for start in [
      { try await $0.query("COPY", doing: "asking") as Rows? },
      {
        try await $0.startCopyIn("COPY", doing: "asking")
        return nil
      },
    ] as [@Sendable (Connection) async throws -> Rows?] {
      let connection = try await server.connect()
      let error = await #expect(throws: PostgresError.self) { try await start(connection) }
      #expect(error?.code == .unexpectedResult)
      #expect(try #require(error).description.contains("source: asking"))
      let next = await #expect(throws: PostgresError.self) {
        try await connection.query("NEXT", doing: "going on")
      }
      #expect(next?.isConnectionLoss == true)
    }
  }

  @Test func `a server that hangs up in a COPY is a connection loss, however often it is asked`() async throws
  {
    let server = try FakeServer([
      "COPY": .messagesThenHangUp([BackendMessage.copyOut, BackendMessage.copyData("1\n")])
    ])
    let connection = try await server.connect()
    try await connection.startCopyOut("COPY", doing: "copying")
    for _ in 1...2 {
      let error = await #expect(throws: PostgresError.self) {
        while true {
          let chunk = try await connection.readCopy(reusing: [], limit: 1, doing: "copying")
          if chunk.finalRows != nil { return }
        }
      }
      #expect(error?.isConnectionLoss == true)
    }
  }

  @Test func `a stream that breaks is a connection loss, however often it is asked`() async throws {
    let server = try FakeServer(["STREAM": .messagesThenHangUp([BackendMessage.copyBoth])])
    let connection = try await server.connect()
    try await connection.startCopyBoth("STREAM", doing: "streaming")
    for _ in 1...2 {
      let error = await #expect(throws: PostgresError.self) {
        _ = try await connection.receiveMessages(limit: 100, patience: .seconds(5), doing: "streaming")
      }
      #expect(error?.isConnectionLoss == true)
    }
  }

  @Test func `a stream hands over what has come, and nothing when patience ends`() async throws {
    let server = try FakeServer([
      "STREAM": .messages([
        BackendMessage.copyBoth, BackendMessage.copyData("one"), BackendMessage.copyData("two"),
      ])
    ])
    let connection = try await server.connect()
    try await connection.startCopyBoth("STREAM", doing: "streaming")
    var messages: [String] = []
    while messages.count < 2 {
      let received = try await connection.receiveMessages(limit: 1, patience: .seconds(5), doing: "streaming")
      #expect(received.messages.count == 1)
      messages += received.messages.map { String(decoding: received.bytes[$0], as: UTF8.self) }
    }
    #expect(messages == ["one", "two"])
    let nothing = try await connection.receiveMessages(
      limit: 1, patience: .milliseconds(50), doing: "streaming")
    #expect(nothing.messages.isEmpty && !nothing.isEnded)
  }

  /// Waits until the server has the statement.
  private func reached(_ sql: String, _ server: FakeServer) async throws {
    while !server.received.contains(sql) { await Task.yield() }
  }
}
