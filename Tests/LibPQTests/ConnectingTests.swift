import LibPQ
import Testing

/// Opens connections to servers that are not there, or not well.
@Suite(.timeLimit(.minutes(1)))
struct ConnectingTests {
  private func string(port: Int) throws -> ConnectionString {
    try ConnectionString("host=127.0.0.1 port=\(port) user=app password=hunter2 dbname=orders", for: "source")
  }

  @Test func `a closed port is refused with end, host and port, and without the password`() async throws {
    let port = try FakeServer.closedPort()
    let string = try string(port: port)
    let error = await #expect(throws: PostgresError.self) {
      try await Connection.open(string, end: "source")
    }
    let description = try #require(error).description
    #expect(error?.code == .connection)
    #expect(error?.isConnectionLoss == true)
    #expect(error?.isAnswered == false)
    for part in ["source", "127.0.0.1", "\(port)"] { #expect(description.contains(part), "\(description)") }
    #expect(!description.contains("hunter2"))
  }

  @Test func `a server that never answers costs the time limit and no more`() async throws {
    let server = try FakeServer(isSilent: true)
    let string = try string(port: server.port)
    let began = ContinuousClock.now
    let error = await #expect(throws: PostgresError.self) {
      try await Connection.open(string, end: "target", within: .milliseconds(300))
    }
    let took = ContinuousClock.now - began
    #expect(took >= .milliseconds(300) && took < .seconds(10))
    let description = try #require(error).description
    #expect(error?.code == .timedOut)
    #expect(error?.isAnswered == true, "its machine takes connections")
    for part in ["target", "127.0.0.1", "\(server.port)"] {
      #expect(description.contains(part), "\(description)")
    }
    #expect(!description.contains("hunter2"))
  }

  @Test func `cancelling the task ends the wait for an answer`() async throws {
    let server = try FakeServer(isSilent: true)
    let string = try string(port: server.port)
    let task = Task { try await Connection.open(string, end: "source", within: .seconds(40)) }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
  }

  @Test func `a host name that does not exist is named`() async throws {
    let string = try ConnectionString("host=no-such-host.invalid", for: "source")
    let error = await #expect(throws: PostgresError.self) {
      try await Connection.open(string, end: "source")
    }
    #expect(try #require(error).description.contains("no-such-host.invalid"))
  }

  @Test func `a socket directory without a server is named`() async throws {
    let string = try ConnectionString("host=/nonexistent port=5999", for: "source")
    let error = await #expect(throws: PostgresError.self) {
      try await Connection.open(string, end: "source")
    }
    #expect(try #require(error).description.contains("/nonexistent/.s.PGSQL.5999"))
  }

  @Test(arguments: [
    "28P01", "28000", "3D000", "53300", "57P03", "08P01",
  ])
  func `a login that is refused has the server's code, and that somebody is there`(
    state: String
  ) async throws {
    let server = try FakeServer(
      refusal: BackendMessage.error([
        "S": "FATAL", "V": "FATAL", "C": state, "M": "no: \"app\"", "D": "Not today.", "F": "auth.c",
        "L": "334", "R": "auth_failed",
      ]))
    let error = await #expect(throws: PostgresError.self) { try await server.connect() }
    #expect(error?.sqlState?.rawValue == state)
    #expect(error?.isAnswered == true)
    // For those who wait until they are let in.
    #expect(error?.isConnectionLoss == true)
    let message = try #require(error).message
    #expect(message.hasSuffix("FATAL:  no: \"app\"\nDETAIL:  Not today."), "\(message)")
  }

  @Test(arguments: ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"])
  func `who takes the connection is there, though he is no server`(words: String) async throws {
    let server = try FakeServer(refusal: Array(words.utf8))
    let error = await #expect(throws: PostgresError.self) { try await server.connect() }
    #expect(error?.isAnswered == true, "\(String(describing: error))")
    #expect(error?.sqlState == nil)
  }

  @Test func `one host of many that answers is somebody`() async throws {
    let server = try FakeServer(refusal: BackendMessage.error(["S": "FATAL", "C": "28P01", "M": "no"]))
    let ports = try "\(FakeServer.closedPort()),\(server.port)"
    let string = try ConnectionString(
      "host=127.0.0.1,127.0.0.1 port=\(ports) user=app sslmode=disable gssencmode=disable", for: "source")
    let error = await #expect(throws: PostgresError.self) {
      try await Connection.open(string, end: "source")
    }
    #expect(error?.isAnswered == true)
    #expect(error?.sqlState == .invalidPassword)
  }

  @Test func `a connection that was closed says so`() async throws {
    let server = try FakeServer()
    let connection = try await server.connect()
    await connection.close()
    let error = await #expect(throws: PostgresError.self) {
      try await connection.query("SELECT 1", doing: "trying")
    }
    #expect(error?.isConnectionLoss == true)
    #expect(try #require(error).description.contains("closed"))
  }
}

extension FakeServer {
  func connect() async throws -> Connection {
    let string = try ConnectionString(
      "host=127.0.0.1 port=\(port) user=app dbname=orders sslmode=disable gssencmode=disable", for: "source")
    return try await Connection.open(string, end: "source")
  }
}
