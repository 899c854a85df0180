import Clusters
import Foundation
import Testing

/// The servers that all other suites stand on.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct ClusterTests {
  @Test("The target speaks TLS with a certificate that verifies, and with no other authority")
  func targetVerifies() async throws {
    let target = try await ClusterPair.shared.target
    let session = try await SQLSession(target)
    let encrypted = try await session.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    #expect(encrypted == "t")
    await session.close()

    await #expect(throws: SQLFailure.self) {
      try await SQLSession(target.with(["sslmode": "verify-full", "sslrootcert": "/dev/null"]))
    }
  }

  @Test("Both ends are ready for logical replication and say what storage the target has")
  func pairIsReady() async throws {
    let pair = try await ClusterPair.shared
    for server in [pair.source, pair.target] {
      let session = try await SQLSession(server)
      #expect(try await session.value("SHOW wal_level") == "logical")
      await session.close()
    }
    #expect(["fscrypt", "gocryptfs", "none "].contains { pair.targetStorage.hasPrefix($0) })
    print("target storage: \(pair.targetStorage)")
  }

  @Test(
    "What was committed is there after kill -9 and a restart; what was open is not",
    .ownServers)
  func survivesKill() async throws {
    let cluster = try await Cluster(named: "killed", .init(settings: ["log_checkpoints": "off"]))
    try await cluster.start()
    let session = try await SQLSession(cluster.superuser)
    try await session.execute("CREATE TABLE kept (id int) \\; INSERT INTO kept VALUES (1)")
    try await session.execute("BEGIN \\; INSERT INTO kept VALUES (2)")

    try await cluster.kill9()
    do {
      try await session.execute("SELECT 1")
      Issue.record("a killed server answered")
    } catch SQLFailure.connectionLost {}
    await #expect(throws: SQLFailure.self) { try await SQLSession(cluster.superuser) }

    try await cluster.start()
    let after = try await SQLSession(cluster.superuser)
    #expect(try await after.rows("SELECT id FROM kept") == [["1"]])
    await after.close()
    try await cluster.destroy()
  }

  @Test(
    "A cluster on encrypted storage takes its mounts along when it is destroyed",
    .ownServers)
  func unmounts() async throws {
    let cluster = try await Cluster(named: "mounted", .init(encryptedStorage: true))
    try await cluster.start()
    let mounted = cluster.dataDirectory.dropLast("/data".count) + " "
    #expect(try mounts().contains(mounted) == !cluster.storage.hasPrefix("none"))
    try await cluster.destroy()
    #expect(try !mounts().contains(mounted))
    #expect(!FileManager.default.fileExists(atPath: cluster.dataDirectory))
  }

  private func mounts() throws -> String {
    try String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)
  }

  @Test(
    "A restart in fast mode keeps the cluster, with changed settings",
    .ownServers)
  func restarts() async throws {
    let cluster = try await Cluster(named: "restarted")
    try await cluster.start()
    try await cluster.set(["wal_level": "replica"])
    try await cluster.restart()
    let session = try await SQLSession(cluster.superuser)
    #expect(try await session.value("SHOW wal_level") == "replica")
    await session.close()
    try await cluster.destroy()
  }

  @Test("Fresh databases are empty, and are dropped with the slots on them")
  func freshDatabasesGo() async throws {
    let pair = try await ClusterPair.shared
    let name = try await pair.withFreshDatabases(named: "fresh") { databases in
      let session = try await SQLSession(databases.source)
      let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
      #expect(try await session.value(tables) == "0")
      try await session.execute(
        "SELECT pg_create_logical_replication_slot(\(quotedLiteral(databases.name)), 'pgoutput')")
      return databases.name
    }
    let session = try await SQLSession(pair.source)
    let left = """
      SELECT datname FROM pg_database WHERE datname = \(quotedLiteral(name))
      UNION ALL SELECT slot_name FROM pg_replication_slots WHERE slot_name = \(quotedLiteral(name))
      """
    #expect(try await session.rows(left).isEmpty)
    await session.close()
  }
}
