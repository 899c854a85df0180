import Clusters
import Testing

@testable import LibPQ

/// A connection of the program's own client to a server of the harness.
func connect(
  _ server: Clusters.ConnectionString, end: String = "source", settings: [String: String] = [:]
) async throws -> Connection {
  var string = try LibPQ.ConnectionString(server.text, for: end)
  for (name, value) in settings { string = string.setting(name, to: value) }
  return try await Connection.open(string, end: end)
}

extension Connection {
  func processID() async throws -> String {
    try await query("SELECT pg_backend_pid() AS pid", doing: "asking for the backend").first?.text("pid")
      ?? ""
  }
}

extension SQLSession {
  /// Waits until a backend runs a statement that contains `text`.
  func waitUntilActive(_ processID: String, _ text: String) async throws {
    let sql = """
      SELECT 1 FROM pg_stat_activity WHERE pid = \(processID) AND state = 'active'
      AND query LIKE \(Clusters.quotedLiteral("%\(text)%"))
      """
    try await waitUntil("\(text) to run") { try await !rows(sql).isEmpty }
  }

  func waitUntilIdle(_ processID: String) async throws {
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = \(processID) AND state LIKE 'idle%'"
    try await waitUntil("an idle backend") { try await !rows(sql).isEmpty }
  }
}

@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct LibPQTests {
  private func withConnection<Result: Sendable>(
    _ body: (Connection, Clusters.ConnectionString) async throws -> Result
  ) async throws -> Result {
    try await ClusterPair.shared.withFreshDatabases(named: "libpq") { databases in
      let connection = try await connect(databases.source)
      let result = try await body(connection, databases.source)
      await connection.close()
      return result
    }
  }

  @Test(
    "A login with the wrong password is refused without showing it, a database that is not there by name")
  func logins() async throws {
    let source = try await ClusterPair.shared.source
    let wrong = await #expect(throws: PostgresError.self) {
      try await connect(source, settings: ["password": "hunter2"])
    }
    #expect(wrong?.code == .connection)
    #expect(try #require(wrong).description.contains("password authentication failed"))
    #expect(wrong?.description.contains("hunter2") == false)
    let missing = await #expect(throws: PostgresError.self) {
      try await connect(source, settings: ["dbname": "no such database"])
    }
    #expect(try #require(missing).description.contains("no such database"))
  }

  @Test("A connection knows its server's version, its peer, and whether it is encrypted")
  func facts() async throws {
    let pair = try await ClusterPair.shared
    let source = try await connect(pair.source)
    let target = try await connect(pair.target, end: "target")
    let version = try await source.query("SHOW server_version_num", doing: "asking for the version")
    #expect(try await source.serverVersion() == version.first?.integer("server_version_num"))
    let said = try await target.query(
      "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", doing: "asking for TLS")
    #expect(try await target.isEncrypted() == said.first?.bool("ssl"))
    let port = try await source.query("SHOW port", doing: "asking for the port").first?.text("port")
    #expect(try await source.peer().port == port)
    await source.close()
    await target.close()
  }

  @Test("Parameters arrive as they are, NULL and emptiness included")
  func parameters() async throws {
    try await withConnection { connection, _ in
      let rows = try await connection.query(
        "SELECT $1::text AS a, $2::text AS b, $3::int + 1 AS c, $4::text AS d",
        ["it's \\ é", nil, "41", ""],
        doing: "asking")
      let row = try #require(rows.first)
      #expect(try row.text("a") == "it's \\ é")
      #expect(try row.optional("b") == nil)
      #expect(try row.integer("c") == 42)
      #expect(try row.text("d") == "")
    }
  }

  @Test("Of several statements the last result counts, and a failure of one undoes all")
  func severalStatements() async throws {
    try await withConnection { connection, _ in
      let rows = try await connection.query(
        "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 5); SELECT count(*) AS n FROM t",
        doing: "asking")
      #expect(try rows.first?.integer("n") == 5)
      let error = await #expect(throws: PostgresError.self) {
        try await connection.query("INSERT INTO t VALUES (6); SELECT 1/0; SELECT 1", doing: "asking")
      }
      #expect(error?.sqlState?.rawValue == "22012")
      #expect(try await connection.query("SELECT FROM t", doing: "asking").count == 5)
    }
  }

  @Test("A refusal has state, detail, hint and names; data errors have no value")
  func refusals() async throws {
    try await withConnection { connection, _ in
      try await connection.query(
        "CREATE TABLE t (a text CONSTRAINT key PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t",
        doing: "preparing")
      func error(_ sql: String, _ parameters: [String?] = []) async throws -> PostgresError {
        let error = await #expect(throws: PostgresError.self) {
          try await connection.query(sql, parameters, doing: "working on t")
        }
        return try #require(error)
      }
      let dependent = try await error("DROP TABLE t")
      #expect(dependent.sqlState?.rawValue == "2BP01")
      #expect(dependent.detail?.contains("view v") == true)
      #expect(dependent.hint?.contains("CASCADE") == true)
      #expect(dependent.description.contains("source: working on t"))

      try await connection.query("INSERT INTO t VALUES ('hunter2')", doing: "preparing")
      let duplicate = try await error("INSERT INTO t VALUES ($1)", ["hunter2"])
      #expect(duplicate.sqlState?.rawValue == "23505")
      #expect(duplicate.objects == ["schema public", "table t", "constraint key"])
      let values = [
        duplicate, try await error("SELECT $1::int", ["hunter2"]),
        try await error("SELECT '99999999999'::int"), try await error("SELECT '{hunter2'::int[]"),
        try await error("SELECT '{\"hunter2'::json"), try await error("SELECT 'hunter2'::timestamptz"),
        try await error("SELECT B'1' || 'hunter2'::bit(4)"), try await error("SELECT 'hunter2'::uuid"),
      ]
      for error in values {
        #expect(error.sqlState?.mayQuoteValues == true)
        #expect(!error.description.contains("hunter2") && !error.description.contains("999"), "\(error)")
      }
    }
  }

  @Test("A time limit cancels the statement on the server, and the connection goes on")
  func timeLimit() async throws {
    try await withConnection { connection, server in
      let processID = try await connection.processID()
      let error = await #expect(throws: PostgresError.self) {
        try await connection.query("SELECT pg_sleep(60)", doing: "sleeping", within: .milliseconds(200))
      }
      #expect(error?.code == .timedOut)
      let observer = try await SQLSession(server)
      try await observer.waitUntilIdle(processID)
      await observer.close()
      #expect(try await connection.processID() == processID)
    }
  }

  @Test("A time limit of a pipeline ends its statement on the server, and the connection is closed")
  func timeLimitOfPipeline() async throws {
    try await withConnection { connection, server in
      let processID = try await connection.processID()
      var batch = StatementBatch()
      batch.call("SELECT 1", expectedRows: nil)
      batch.call("SELECT pg_sleep(60)", expectedRows: nil)
      let calls = batch
      let error = await #expect(throws: PostgresError.self) {
        try await connection.rows(of: calls, within: .milliseconds(200)) { "sleeping in call \($0)" }
      }
      #expect(error?.code == .timedOut)
      await #expect(throws: PostgresError.self) { try await connection.processID() }
      let observer = try await SQLSession(server)
      try await waitUntil("the end of the backend") {
        try await observer.rows("SELECT 1 FROM pg_stat_activity WHERE pid = \(processID)").isEmpty
      }
      await observer.close()
    }
  }

  @Test("Cancelling the task cancels the statement on the server, and the connection goes on")
  func cancellation() async throws {
    try await withConnection { connection, server in
      let processID = try await connection.processID()
      let observer = try await SQLSession(server)
      let task = Task { try await connection.query("SELECT pg_sleep(60)", doing: "sleeping") }
      try await observer.waitUntilActive(processID, "pg_sleep")
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      try await observer.waitUntilIdle(processID)
      await observer.close()
      #expect(try await connection.processID() == processID)
    }
  }

  @Test("A transaction commits what returned and nothing else")
  func transactions() async throws {
    try await withConnection { connection, _ in
      try await connection.query("CREATE TABLE t (a int PRIMARY KEY)", doing: "preparing")
      try await connection.transaction(doing: "filling t") { connection in
        _ = try await connection.query("INSERT INTO t VALUES (1)", doing: "writing")
      }
      await #expect(throws: PostgresError.self) {
        try await connection.transaction(doing: "filling t") { connection in
          try await connection.query("INSERT INTO t VALUES (2)", doing: "writing")
          try await connection.query("INSERT INTO t VALUES (1)", doing: "writing")
        }
      }
      let swallowed = await #expect(throws: PostgresError.self) {
        try await connection.transaction(doing: "filling t") { connection in
          try await connection.query("INSERT INTO t VALUES (3)", doing: "writing")
          _ = try? await connection.query("INSERT INTO t VALUES (1)", doing: "writing")
        }
      }
      #expect(swallowed?.code == .unexpectedResult)
      let rows = try await connection.query("SELECT a FROM t", doing: "reading")
      #expect(try rows.map { try $0.integer("a") } == [1])
    }
  }

  @Test("A backend that is terminated is a connection loss, in a statement and between two")
  func termination() async throws {
    try await withConnection { idle, server in
      let busy = try await connect(server)
      let observer = try await SQLSession(server)
      let processID = try await busy.processID()
      let task = Task { try await busy.query("SELECT pg_sleep(60)", doing: "sleeping") }
      try await observer.waitUntilActive(processID, "pg_sleep")
      for victim in [processID, try await idle.processID()] {
        try await observer.execute("SELECT pg_terminate_backend(\(victim), 5000)")
      }
      await observer.close()
      let inStatement = await #expect(throws: PostgresError.self) { try await task.value }
      #expect(inStatement?.isConnectionLoss == true)
      let between = await #expect(throws: PostgresError.self) { try await idle.processID() }
      #expect(between?.isConnectionLoss == true)
    }
  }

  @Test("A killed server is a connection loss for a statement, a COPY and a pipeline", .ownServers)
  func killedServer() async throws {
    let cluster = try await Cluster(named: "libpq-killed")
    try await cluster.start()
    let observer = try await SQLSession(cluster.superuser)
    let connections = [
      try await connect(cluster.superuser), try await connect(cluster.superuser),
      try await connect(cluster.superuser),
    ]
    let processIDs = [
      try await connections[0].processID(), try await connections[1].processID(),
      try await connections[2].processID(),
    ]
    let statement = Task { _ = try await connections[0].query("SELECT pg_sleep(60)", doing: "sleeping") }
    let copy = Task {
      let sql = "COPY (SELECT pg_sleep(60)) TO STDOUT"
      try await connections[1].startCopyOut(sql, doing: "copying")
      _ = try await connections[1].readCopy(reusing: [], limit: 1, doing: "copying")
    }
    let pipeline = Task {
      var batch = StatementBatch()
      batch.call("SELECT pg_sleep(60)", expectedRows: nil)
      try await connections[2].execute(batch, doing: "applying")
    }
    for processID in processIDs { try await observer.waitUntilActive(processID, "pg_sleep") }
    await observer.close()
    try await cluster.kill9()
    for task in [statement, copy, pipeline] {
      let error = await #expect(throws: PostgresError.self) { try await task.value }
      #expect(error?.isConnectionLoss == true, "\(String(describing: error))")
    }
    try await cluster.destroy()
  }
}
