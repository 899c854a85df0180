import Clusters

/// What goes on while the database moves.
struct Workload {
  private let source: ConnectionString
  let ledger = Ledger(writers: 4, transactionsPerSecond: 400)
  let reader = Reader(query: "SELECT count(*) FROM ledger_account")
  private var pgbench: BackgroundProcess?

  /// A database of some hundred MB: pgbench's tables, with a key for the one that has none, and the ledger.
  static func load(_ source: ConnectionString) async throws -> Workload {
    say("Loading the source: pgbench at scale 20, and a ledger")
    let workload = Workload(source: source)
    try await Pgbench.initialize(source, scale: 20)
    let session = try await SQLSession(source)
    try await session.execute(
      "ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    await session.close()
    try await workload.ledger.createTables(on: source)
    return workload
  }

  private init(source: ConnectionString) { self.source = source }

  mutating func start() async throws {
    ledger.start(on: source)
    reader.start(on: source)
    pgbench = try await Pgbench.start(source, clients: 4, rate: 300)
  }

  /// After the cutover: every writer has been refused by the source.
  func settle() async throws {
    try await waitUntil("the refusal of every writer", within: .seconds(20)) {
      ledger.report.refusedWriters == 4
    }
    await stop()
  }

  func stop() async {
    await ledger.stop()
    await reader.stop()
    pgbench?.terminate()
  }
}
