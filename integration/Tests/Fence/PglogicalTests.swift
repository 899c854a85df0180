import Clusters
import Foundation
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// A source that subscribes by pglogical, whose apply worker writes rows without firing statement triggers.
@Suite(
  .serialized, .servers, .timeLimit(.minutes(4)), .ownServers,
  .enabled("needs pglogical, which integration/prepare installs where Debian has it") {
    try await PostgresPrograms.hasExtension("pglogical")
  })
struct PglogicalTests {
  @Test(
    "A subscription that is enabled keeps a migration from beginning, and the remedy that is given lets it")
  func preflight() async throws {
    try await Subscribed.run { scene in
      let blocked = try await scene.replicate.run("check", "--allow-unencrypted-target")
      #expect(blocked.exitCode == 3, "\(blocked.output)\(blocked.errors)")
      #expect(blocked.output.contains("pglogical subscription \"feed\""), "\(blocked.output)")
      let remedy = "SELECT pglogical.alter_subscription_disable('feed', true);"
      #expect(blocked.output.contains(remedy), "\(blocked.output)")
      // Who may not look at the subscriptions sees the worker.
      try await scene.waitForWorker(true)
      let plain = try await scene.plainReplicators()
      #expect(plain.map(\.object).contains { $0.contains("pglogical apply") }, "\(plain)")
      #expect(plain.first?.remedy.contains("pglogical.subscription") == true, "\(plain)")
      try await scene.execute(remedy, on: scene.source)
      try await scene.waitForWorker(false)
      let passed = try await scene.replicate.run("check", "--allow-unencrypted-target")
      #expect(passed.exitCode == 0, "\(passed.output)\(passed.errors)")
    }
  }

  @Test("One that is enabled on the way keeps a cutover from beginning, and the source from being sealed")
  func cutover() async throws {
    try await Subscribed.run { scene in
      try await scene.disable()
      let held = try await HoldingPoint("before seal")
      let engine = try await scene.start(held)
      try await scene.enable()
      try await scene.waitForWorker(true)
      try await scene.publish(1, 5)
      try await scene.waitForRows(5, on: scene.target, engine)
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      #expect(refused.errors.contains("alter_subscription_disable('feed', true);"), "\(refused.errors)")
      try await scene.disable()

      // After the fence.
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      try await scene.enable()
      try await scene.waitForWorker(true)
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 5, "\(cutover.output)")
      #expect(cutover.errors.contains("pglogical subscription \"feed\""), "\(cutover.errors)")
      try await scene.publish(6, 8)
      try await scene.waitForRows(8, on: scene.target, engine)

      try await scene.disable()
      let last = try await scene.replicate.run("cutover", "--yes")
      #expect(last.exitCode == 0, "\(last.output)\(last.errors)\(engine.errors)")
      #expect(try await scene.value("SELECT count(*), max(id) FROM t", on: scene.target) == "8")
    }
  }

  @Test(
    "What its worker writes between the marker and the seal, and ends, is on the target when that opens")
  func slipped() async throws {
    try await Subscribed.run { scene in
      try await scene.disable()
      let held = try await HoldingPoint("seal announced")
      let engine = try await scene.start(held)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      try await scene.publish(1, 5)
      try await scene.enable()
      try await scene.waitForRows(5, on: scene.source, engine)
      try await scene.disable()
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)\(engine.errors)")
      #expect(cutover.output.contains("were brought over: \"public\".\"t\", by replication origin 'pgl_"))
      #expect(try await scene.value("SELECT count(*) FROM t", on: scene.target) == "5")
    }
  }
}

/// A database that publishes by pglogical, the source that subscribes to it, and a target.
private struct Subscribed: Sendable {
  let provider: Clusters.ConnectionString
  let source: Clusters.ConnectionString
  let target: Clusters.ConnectionString
  let replicate: ReplicateProcess

  static func run(_ body: (Subscribed) async throws -> Void) async throws {
    let cluster = try await Cluster(
      named: "pglogical",
      .init(settings: ["shared_preload_libraries": "pglogical", "max_worker_processes": "20"]))
    try await cluster.start()
    let server = try await SQLSession(cluster.superuser)
    for name in ["provider", "source", "target"] { try await server.execute("CREATE DATABASE \(name)") }
    await server.close()
    let ends = ["provider", "source", "target"].map { cluster.connection(database: $0) }
    let scene = Subscribed(
      provider: ends[0], source: ends[1], target: ends[2],
      replicate: ReplicateProcess(source: ends[1], target: ends[2]))
    try await scene.subscribe()
    try await body(scene)
    try await cluster.destroy()
  }

  private func subscribe() async throws {
    for end in [provider, source] {
      try await execute("CREATE EXTENSION pglogical", "CREATE TABLE t (id int PRIMARY KEY)", on: end)
    }
    try await execute(
      "SELECT pglogical.create_node('provider', \(quotedLiteral(provider.text)))",
      "SELECT pglogical.replication_set_add_table('default', 't')", on: provider)
    try await execute(
      "SELECT pglogical.create_node('subscriber', \(quotedLiteral(source.text)))",
      """
      SELECT pglogical.create_subscription('feed', \(quotedLiteral(provider.text)),
        synchronize_structure := false, synchronize_data := false)
      """, on: source)
    // Its slot is made by the worker, and gets nothing that was written before.
    try await waitUntil("a subscription that replicates", within: .seconds(30)) {
      try await value("SELECT status FROM pglogical.show_subscription_status()", on: source) == "replicating"
    }
  }

  /// An engine that meets a failpoint, ready for a cutover.
  func start(_ held: HoldingPoint) async throws -> BackgroundProcess {
    let engine = try await replicate.with(["REPLICATE_FAILPOINT": held.failpoint]).start(
      ["start", "--no-reverse", "--allow-unencrypted-target"])
    try await engine.waitUntil("ready for a cutover", within: .seconds(60), every: .milliseconds(200)) {
      let run = try await replicate.run("status", "--json")
      guard run.exitCode == 0 else { return false }
      return try JSONDecoder().decode(Status.self, from: Data(run.output.utf8)).ready
    }
    return engine
  }

  func publish(_ first: Int, _ last: Int) async throws {
    try await execute("INSERT INTO t SELECT generate_series(\(first), \(last))", on: provider)
  }

  func enable() async throws {
    try await execute("SELECT pglogical.alter_subscription_enable('feed', true)", on: source)
  }

  func disable() async throws {
    try await execute("SELECT pglogical.alter_subscription_disable('feed', true)", on: source)
    try await waitForWorker(false)
  }

  func waitForWorker(_ isThere: Bool) async throws {
    try await waitUntil(isThere ? "an apply worker" : "the end of the apply worker", within: .seconds(30)) {
      try await value(
        """
        SELECT count(*) > 0 FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'pglogical apply%'
        """, on: source) == (isThere ? "t" : "f")
    }
  }

  func waitForRows(_ count: Int, on end: Clusters.ConnectionString, _ engine: BackgroundProcess) async throws
  {
    try await engine.waitUntil("\(count) rows", within: .seconds(30)) {
      try await value("SELECT count(*) FROM t", on: end) == "\(count)"
    }
  }

  /// What a role without rights on the extension's schema sees.
  func plainReplicators() async throws -> [Replicator] {
    try await execute("CREATE ROLE plain LOGIN PASSWORD 'plain'", on: source)
    let string = try LibPQ.ConnectionString(
      source.with(["user": "plain", "password": "plain"]).text, for: "source")
    let connection = try await Session.open(string, end: "source", purpose: "test")
    let found = try await Replicator.all(on: connection)
    await connection.close()
    return found
  }

  func value(_ sql: String, on end: Clusters.ConnectionString) async throws -> String? {
    try await SQLSession.value(sql, on: end)
  }

  func execute(_ statements: String..., on end: Clusters.ConnectionString) async throws {
    let session = try await SQLSession(end, settings: ["default_transaction_read_only": "off"])
    for sql in statements { try await session.execute(sql) }
    await session.close()
  }
}
