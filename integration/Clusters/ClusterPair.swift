import Foundation

/// The two ends of a migration: a source, and a target with TLS on encrypted storage where the machine allows
/// it.
package struct ClusterPair: Sendable {
  /// Superusers of the two servers, database `postgres`.
  package let source: ConnectionString
  /// As a superuser of the target's server, database `postgres`.
  package let target: ConnectionString

  /// nil when the servers are given from outside.
  package let sourceCluster: Cluster?
  /// Nil when the servers are given from outside.
  package let targetCluster: Cluster?

  /// As `Cluster.storage`. For a target that is given, what the file named by `REPLICATE_TEST_TARGET_STORAGE`
  /// says.
  package let targetStorage: String

  /// What `replicate check` and `start` must be given of the target's encryption: nothing where they can see
  /// it themselves, evidence where only the file knows, and the permission to go without where there is none.
  package var encryptionArguments: [String] {
    guard ["fscrypt", "gocryptfs"].contains(targetStorage) else { return ["--allow-unencrypted-target"] }
    return targetCluster == nil ? ["--encryption-evidence", "echo \(targetStorage)"] : []
  }

  /// The servers are our own, so a test may stop, kill and restart them and look at their files. Known before
  /// any is started, so that tests can be skipped by it.
  package static let canKillServers =
    ProcessInfo.processInfo.environment["REPLICATE_TEST_SOURCE"] == nil
    && ProcessInfo.processInfo.environment["REPLICATE_TEST_TARGET"] == nil

  /// The major versions of both servers.
  package static func versions() async throws -> (source: Int, target: Int) {
    func version(_ server: ConnectionString) async throws -> Int {
      try await SQLSession.value("SELECT current_setting('server_version_num')::int / 10000", on: server)
        .flatMap { Int($0) } ?? 0
    }
    let pair = try await shared
    return (try await version(pair.source), try await version(pair.target))
  }

  /// Without a server where the source is our own: for tests that are skipped by it.
  package static func sourceMajor() async throws -> Int {
    guard canKillServers else { return try await versions().source }
    return try await major(PostgresPrograms.ofSource)
  }

  /// As `sourceMajor`.
  package static func targetMajor() async throws -> Int {
    guard canKillServers else { return try await versions().target }
    return try await major(nil)
  }

  /// Both ends have ICU's collations, which some builds leave out. Without a server, as `sourceMajor`.
  package static func hasICU() async throws -> Bool {
    guard canKillServers else {
      let pair = try await shared
      for server in [pair.source, pair.target] {
        let found = try await SQLSession.value(
          "SELECT count(*) FROM pg_collation WHERE collprovider = 'i'", on: server)
        if found == "0" { return false }
      }
      return true
    }
    for programs in [PostgresPrograms.ofSource, nil] {
      let options = try await Command.check([
        PostgresPrograms.path("pg_config", in: programs), "--configure",
      ])
      // Since 16 it is in unless it is left out.
      let isLeftOut =
        try await major(programs) >= 16
        ? options.contains("--without-icu") : !options.contains("--with-icu")
      if isLeftOut { return false }
    }
    return true
  }

  private static func major(_ programs: String?) async throws -> Int {
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    let words = try await Command.check([PostgresPrograms.path("postgres", in: programs), "--version"])
    return words.firstMatch(of: /\(PostgreSQL\) (\d+)/).flatMap { Int($0.output.1) } ?? 0
  }

  private static let creation = Task { try await create() }

  /// The pair of the task's own, while it has one of `ClusterPool`.
  @TaskLocal static var leased: ClusterPair?

  /// The task's own pair, or else one of the process, started at the first use. All end with the process.
  package static var shared: ClusterPair {
    get async throws {
      if let leased { return leased }
      return try await creation.value
    }
  }

  /// Of servers that run.
  package init(source: Cluster, target: Cluster) {
    self.init(
      source: source.superuser, target: target.superuser, sourceCluster: source, targetCluster: target,
      targetStorage: target.storage)
  }

  private init(
    source: ConnectionString, target: ConnectionString, sourceCluster: Cluster?, targetCluster: Cluster?,
    targetStorage: String
  ) {
    (self.source, self.target) = (source, target)
    (self.sourceCluster, self.targetCluster) = (sourceCluster, targetCluster)
    self.targetStorage = targetStorage
  }

  /// The same with another source.
  package func with(source: Cluster) -> ClusterPair {
    ClusterPair(
      source: source.superuser, target: target, sourceCluster: source, targetCluster: targetCluster,
      targetStorage: targetStorage)
  }

  /// The same with another target.
  package func with(target: Cluster) -> ClusterPair {
    ClusterPair(
      source: source, target: target.superuser, sourceCluster: sourceCluster, targetCluster: target,
      targetStorage: target.storage)
  }

  static func create() async throws -> ClusterPair {
    let environment = ProcessInfo.processInfo.environment
    switch (environment["REPLICATE_TEST_SOURCE"], environment["REPLICATE_TEST_TARGET"]) {
    case (let source?, let target?):
      var storage = "none that is known: REPLICATE_TEST_TARGET_STORAGE is not set"
      if let file = environment["REPLICATE_TEST_TARGET_STORAGE"] {
        storage = try String(contentsOfFile: file, encoding: .utf8)
          .trimmingCharacters(in: .whitespacesAndNewlines)
      }
      return ClusterPair(
        source: ConnectionString(source), target: ConnectionString(target), sourceCluster: nil,
        targetCluster: nil, targetStorage: storage)
    case (nil, nil):
      let source = try await Cluster(named: "source", .init(programs: PostgresPrograms.ofSource))
      let target = try await Cluster(named: "target", .init(tls: true, encryptedStorage: true))
      try await source.start()
      try await target.start()
      return ClusterPair(
        source: source.superuser, target: target.superuser, sourceCluster: source, targetCluster: target,
        targetStorage: target.storage)
    default:
      throw HarnessError("set both REPLICATE_TEST_SOURCE and REPLICATE_TEST_TARGET, or none of them")
    }
  }

  /// Runs `body` with an empty database of one new name on each end, and drops both afterwards,
  /// with their replication slots and whoever is still connected.
  package func withFreshDatabases<Result: Sendable>(
    named name: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (FreshDatabases) async throws -> Result
  ) async throws -> Result {
    let databases = try await freshDatabases(named: name)
    let result: Result
    do {
      result = try await body(databases)
    } catch {
      // The first error is the one to report; what cannot be dropped now goes with the clusters.
      try? await databases.drop()
      throw error
    }
    try await databases.drop()
    return result
  }

  /// As `withFreshDatabases`, for a caller that calls `drop` itself.
  package func freshDatabases(named name: String) async throws -> FreshDatabases {
    let unique = "\(name)_\(getpid())_\(TestRoot.unique())"
    for server in [source, target] {
      let session = try await SQLSession(server)
      try await session.execute("CREATE DATABASE \(quotedIdentifier(unique)) TEMPLATE template0")
      await session.close()
    }
    return FreshDatabases(name: unique, sourceServer: source, targetServer: target)
  }
}

/// A database of the same name on both ends, for one test.
package struct FreshDatabases: Sendable {
  /// Without quotes; unique among the tests of this machine.
  package let name: String
  fileprivate let sourceServer: ConnectionString
  fileprivate let targetServer: ConnectionString

  fileprivate init(name: String, sourceServer: ConnectionString, targetServer: ConnectionString) {
    self.name = name
    self.sourceServer = sourceServer
    self.targetServer = targetServer
  }

  /// As the source's superuser.
  package var source: ConnectionString { sourceServer.with(["dbname": name]) }
  /// As the target's superuser.
  package var target: ConnectionString { targetServer.with(["dbname": name]) }

  /// Ends what uses the databases, their slots first, and drops them.
  /// - Throws: when a slot is still in use after 20 seconds.
  package func drop() async throws {
    for server in [sourceServer, targetServer] {
      let session = try await SQLSession(server)
      let slots = "FROM pg_replication_slots WHERE database = \(quotedLiteral(name))"
      try await waitUntil("an end of the slots of \(name)", within: .seconds(20)) {
        try await session.execute("SELECT pg_terminate_backend(active_pid) \(slots) AND active")
        do {
          try await session.execute("SELECT pg_drop_replication_slot(slot_name) \(slots) AND NOT active")
        } catch SQLFailure.refused(sqlState: "55006", _) {
          return false  // taken again in between
        }
        return try await session.rows("SELECT 1 \(slots)").isEmpty
      }
      try await session.execute("DROP DATABASE IF EXISTS \(quotedIdentifier(name)) WITH (FORCE)")
      await session.close()
    }
  }
}
