import Clusters
import Testing

/// The oracle must find what it is there to find.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct WorkloadTests {
  @Test("A ledger that ran undisturbed verifies")
  func undisturbed() async throws {
    try await withLedger { ledger, server in
      let contradictions = try await ledger.verify(on: server)
      #expect(contradictions == [])
      #expect(ledger.report.failures == [])
      #expect(ledger.report.unknown == 0)
    }
  }

  @Test(
    "A planted error is found in the ledger",
    arguments: [
      ("DELETE FROM ledger_entry WHERE (writer, n) = (1, 7)", "acknowledged entry 7 is missing"),
      (
        "INSERT INTO ledger_entry (writer, n, amount, note) SELECT writer, n, amount, note "
          + "FROM ledger_entry WHERE (writer, n) = (1, 7)", "entry 7 is there 2 times"
      ),
      ("UPDATE ledger_entry SET amount = amount + 1 WHERE (writer, n) = (1, 7)", "another amount"),
      ("UPDATE ledger_account SET balance = balance + 1 WHERE writer = 1", "writer 1: balance"),
      ("INSERT INTO ledger_entry (writer, n, amount, note) VALUES (1, 99999999, 1, '')", "never written"),
      ("INSERT INTO ledger_entry (writer, n, amount, note) VALUES (1, 5, 1, '')", "deleted entry 5"),
      ("DELETE FROM ledger_account WHERE writer = 1", "1 accounts for 2 writers"),
    ])
  func plantedError(_ planted: String, _ finding: String) async throws {
    try await withLedger { ledger, server in
      let session = try await SQLSession(server)
      try await session.execute(planted)
      await session.close()
      let found = try await ledger.verify(on: server)
      #expect(found.contains { $0.contains(finding) }, "\(found)")
    }
  }

  @Test("A writer that is refused with 25006 stops, and its refused entry is not there")
  func refusal() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "refusal") { databases in
      let ledger = Ledger(writers: 2, transactionsPerSecond: 400)
      try await ledger.createTables(on: databases.source)
      ledger.start(on: databases.source)
      try await waitUntil("writes") { ledger.report.acknowledged > 50 }
      let session = try await SQLSession(databases.source)
      try await session.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE SQLSTATE '25006' USING MESSAGE = 'fenced'; END $$
        """)
      try await session.execute(
        "CREATE TRIGGER fence BEFORE INSERT ON ledger_entry EXECUTE FUNCTION refuse()")
      await session.close()
      try await waitUntil("the refusal of both writers") { ledger.report.refusedWriters == 2 }
      await ledger.stop()
      #expect(ledger.report.failures == [])
      #expect(try await ledger.verify(on: databases.source) == [])
    }
  }

  @Test(
    "The ledger goes on over a killed server, and nothing acknowledged is lost",
    .ownServers)
  func killedServer() async throws {
    let cluster = try await Cluster(named: "crashing")
    try await cluster.start()
    let ledger = Ledger(writers: 4, transactionsPerSecond: 1000)
    try await ledger.createTables(on: cluster.superuser)
    ledger.start(on: cluster.superuser)
    for round in 1...2 {
      let before = ledger.report.acknowledged
      try await waitUntil("writes, round \(round)") { ledger.report.acknowledged > before + 200 }
      try await cluster.kill9()
      try await cluster.start()
    }
    let before = ledger.report.acknowledged
    try await waitUntil("writes after the kills") { ledger.report.acknowledged > before + 200 }
    await ledger.stop()
    #expect(ledger.report.failures == [])
    #expect(try await ledger.verify(on: cluster.superuser) == [])
    try await cluster.destroy()
  }

  @Test("A reader counts its reads, and remembers failures and the longest wait")
  func reader() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "reader") { databases in
      let session = try await SQLSession(databases.source)
      try await session.execute("CREATE TABLE watched (id int)")
      let reader = Reader(query: "SELECT count(*) FROM watched")
      reader.start(on: databases.source)
      try await waitUntil("reads") { reader.report.reads > 20 }
      #expect(reader.report.failures == [])

      let reads = reader.report.reads
      try await session.execute("BEGIN")
      try await session.execute("LOCK TABLE watched")
      try await session.execute("SELECT pg_sleep(0.5)")
      try await session.execute("DROP TABLE watched")
      try await session.execute("COMMIT")
      try await waitUntil("a failure") { !reader.report.failures.isEmpty }
      await reader.stop()
      #expect(reader.report.reads <= reads + 20)
      #expect(reader.report.longestWait > .milliseconds(400))
      await session.close()
    }
  }

  @Test("pgbench writes in the background until it is ended")
  func pgbench() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "pgbench") { databases in
      try await Pgbench.initialize(databases.source, scale: 1)
      let running = try await Pgbench.start(databases.source, clients: 2, rate: 200)
      let session = try await SQLSession(databases.source)
      try await running.waitUntil("history", within: .seconds(20)) {
        try await session.value("SELECT count(*) > 20 FROM pgbench_history") == "t"
      }
      running.terminate()
      #expect(try await running.waitForEnd(within: .seconds(10)) != 0)
      await session.close()
    }
  }

  private func withLedger(_ body: (Ledger, ConnectionString) async throws -> Void) async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "ledger") { databases in
      let ledger = Ledger(writers: 2, transactionsPerSecond: 1000)
      try await ledger.createTables(on: databases.source)
      ledger.start(on: databases.source)
      try await waitUntil("writes") { ledger.report.acknowledged > 100 }
      await ledger.stop()
      try await body(ledger, databases.source)
    }
  }
}
