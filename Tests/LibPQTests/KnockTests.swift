import LibPQ
import Testing

/// Knocks where servers are, and where none are.
@Suite(.timeLimit(.minutes(1)))
struct KnockTests {
  private func knock(
    _ string: String, known: Knock.Place? = nil, within limit: Duration = .seconds(5)
  ) async throws -> [Knock] {
    try await Knock.everywhere(
      try ConnectionString(string, for: "source"), end: "source", known: known, within: limit)
  }

  @Test func `who takes connections is there, and one who refuses them shows that nobody is`() async throws {
    let server = try FakeServer(isSilent: true)
    let closed = try FakeServer.closedPort()
    let knocks = try await knock(
      "host=127.0.0.1,localhost hostaddr=127.0.0.1,127.0.0.1 port=\(closed),\(server.port)")
    #expect(knocks.map(\.outcome) == [.silent("connection refused by"), .taken])
    #expect(
      knocks.map(\.description) == [
        "connection refused by 127.0.0.1:\(closed)", "localhost (127.0.0.1:\(server.port)) takes connections",
      ])
  }

  @Test func `a directory without a socket is silent`() async throws {
    let knocks = try await knock("host=/nonexistent port=5999")
    #expect(knocks.map(\.description) == ["there is no socket /nonexistent/.s.PGSQL.5999"])
    guard case .silent = knocks.first?.outcome else {
      Issue.record("\(knocks)")
      return
    }
  }

  @Test func `a name without an address says nothing`() async throws {
    let knocks = try await knock("host=no-such-host.invalid port=5999")
    guard case .untried(let why) = knocks.first?.outcome, knocks.count == 1 else {
      Issue.record("\(knocks)")
      return
    }
    #expect(why.contains("no address"))
    #expect(knocks[0].description.contains("no-such-host.invalid:5999"))
  }

  @Test func `where the server was is looked at, whatever the name is by now`() async throws {
    let server = try FakeServer(isSilent: true)
    let closed = try FakeServer.closedPort()
    let gone = Knock.Place(host: "no-such-host.invalid", address: "127.0.0.1", port: "\(closed)")
    let silent = try await knock("host=no-such-host.invalid port=\(closed)", known: gone)
    #expect(silent.map(\.outcome) == [.silent("connection refused by")])
    let moved = Knock.Place(host: "127.0.0.1", address: "127.0.0.1", port: "\(server.port)")
    let alive = try await knock("host=127.0.0.1 port=\(closed)", known: moved)
    #expect(alive.map(\.outcome) == [.silent("connection refused by"), .taken])
  }

  @Test(arguments: ["service=no-such-service", "host=a,b hostaddr=127.0.0.1", "host=a,b port=1,2,3"])
  func `a string that does not say where a server is is reported`(string: String) async throws {
    let error = await #expect(throws: PostgresError.self) { try await knock(string) }
    #expect(error?.code == .connectionString, "\(String(describing: error))")
  }
}
