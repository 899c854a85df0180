import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// A source behind a network that goes away.
@Suite(.serialized, .servers, .timeLimit(.minutes(10)))
struct NetworkCases {
  /// How long the cut lasts, in seconds: longer than every timeout below.
  private static let cut = count("REPLICATE_TEST_NETWORK_CUT", default: 8)

  @Test("A network that is cut for longer than every timeout is survived without help", .networkNamespaces)
  func longCut() async throws {
    try await NetworkNamespace.with { network in
      let source = try await Cluster(
        named: "remote",
        .init(settings: ["wal_sender_timeout": "3s", "tcp_user_timeout": "3s"], network: network))
      try await source.start()
      let result: Result<Void, any Error>
      do {
        result = .success(try await survive(network, source))
      } catch {
        result = .failure(error)
      }
      try await source.destroy()
      try result.get()
    }
  }

  private func survive(_ network: NetworkNamespace, _ source: Cluster) async throws {
    let pair = try await ClusterPair.shared
    try await pair.withFreshDatabases(named: "cut") { databases in
      let local = source.superuser.with(["host": source.socketDirectory])
      let administrator = try await SQLSession(local)
      try await administrator.execute(
        "CREATE DATABASE \(quotedIdentifier(databases.name)) TEMPLATE template0")
      await administrator.close()
      let timeouts = [
        "keepalives_idle": "1", "keepalives_interval": "1", "keepalives_count": "2",
        "tcp_user_timeout": "3000", "connect_timeout": "3",
      ]
      let replicate = ReplicateProcess(
        source: source.superuser.with(
          timeouts.merging(["dbname": databases.name, "host": network.address]) { $1 }),
        target: databases.target)
      // By the socket, which no cut reaches.
      let session = try await SQLSession(local.with(["dbname": databases.name]))
      try await session.execute(
        """
        CREATE TABLE t (id int PRIMARY KEY, v int) \\;
        INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i
        """
      )
      let engine = try await replicate.start(["start", "--no-reverse"] + pair.encryptionArguments)
      func wait(_ what: String, for condition: @escaping @Sendable (Status) -> Bool) async throws {
        try await engine.waitUntil(what, within: .seconds(120)) {
          let run = try await replicate.run("status", "--json")
          guard run.exitCode == 0 else { return false }
          return condition(try JSONDecoder().decode(Status.self, from: Data(run.output.utf8)))
        }
      }
      try await wait("ready") { $0.ready }
      try await network.cut()
      try await session.execute("UPDATE t SET v = v + 1")
      let end = ContinuousClock.now + .seconds(Self.cut)
      let slot = "SELECT active FROM pg_replication_slots WHERE database = current_database()"
      try await waitUntil("the end of the cut", within: .seconds(Self.cut + 10)) { .now > end }
      try await waitUntil("the walsender's end") { try await session.value(slot) == "f" }
      try await session.execute("UPDATE t SET v = v + 1")
      try await network.mend()
      try await wait("ready again") { $0.ready }
      try await session.execute("DELETE FROM t WHERE id % 2 = 0")
      let cutover = try await replicate.run("cutover", "--yes", "--max-pause", "60s")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(engine.errors.contains("a connection was lost"), "\(engine.errors)")
      let differences = try await DatabaseComparison().differences(
        source: local.with(["dbname": databases.name]), target: databases.target)
      #expect(differences == [])
      await session.close()
    }
  }
}

extension Trait where Self == ConditionTrait {
  static var networkNamespaces: Self {
    .enabled("needs root and `ip netns`, to cut a network of its own") {
      guard ClusterPair.canKillServers, geteuid() == 0 else { return false }
      return await NetworkNamespace.arePossible
    }
  }
}
