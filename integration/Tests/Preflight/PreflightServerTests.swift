import Clusters
import Foundation
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// How the source's server is set up: each test on a server of its own.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)), .ownServers)
struct PreflightServerTests {
  /// Runs `body` with the superuser of a new server beside an empty database of the shared target.
  private func withSource(
    _ settings: [String: String],
    _ body: (Cluster, FreshDatabases) async throws -> Void
  ) async throws {
    let cluster = try await Cluster(named: "preflight", .init(settings: settings))
    try await cluster.start()
    try await ClusterPair.shared.withFreshDatabases(named: "server") { try await body(cluster, $0) }
    try await cluster.destroy()
  }

  @Test("A wal_level of replica blocks until it is raised and the server restarted")
  func walLevel() async throws {
    try await withSource(["wal_level": "replica"]) { cluster, databases in
      let report = try await Preflight.check(source: cluster.superuser, target: databases.target)
      #expect(report.blockers.map(\.check) == ["wal_level"])
      let mend = "ALTER SYSTEM SET wal_level = logical;"
      try #require(report.blockers.first?.remedy.contains(mend) == true)
      try await SQLSession.run([mend], on: cluster.superuser)
      try await cluster.restart()
      let mended = try await Preflight.check(source: cluster.superuser, target: databases.target)
      #expect(mended.findings.filter { $0.severity > .note } == [])
    }
  }

  @Test("Case 29: a prepared transaction of any database blocks by its name until it is rolled back")
  func preparedTransaction() async throws {
    try await withSource(["max_prepared_transactions": "5"]) { cluster, databases in
      try await SQLSession.run(["CREATE DATABASE other"], on: cluster.superuser)
      let other = cluster.connection(database: "other")
      try await SQLSession.run(
        ["BEGIN", "CREATE TABLE t (a int)", "PREPARE TRANSACTION 'it''s'"], on: other)
      let report = try await Preflight.check(source: cluster.superuser, target: databases.target)
      let finding = try #require(report.blockers.first)
      #expect(report.blockers.count == 1 && finding.check == "prepared_transaction")
      #expect(finding.object == "prepared transaction 'it''s' in database \"other\"")
      let mend = "ROLLBACK PREPARED 'it''s';"
      try #require(finding.remedy.contains(mend))
      try await SQLSession.run([mend], on: other)
      let mended = try await Preflight.check(source: cluster.superuser, target: databases.target)
      #expect(mended.blockers == [])
    }
  }

  @Test("Too few slots and walsenders block, tight limits are warnings")
  func limits() async throws {
    let settings = [
      "max_replication_slots": "1", "max_wal_senders": "1", "max_slot_wal_keep_size": "64MB",
      "wal_sender_timeout": "5s",
    ]
    try await withSource(settings) { cluster, databases in
      let report = try await Preflight.check(source: cluster.superuser, target: databases.target)
      #expect(report.blockers.map(\.check) == ["max_replication_slots", "max_wal_senders"])
      let warnings = report.findings.filter { $0.severity == .warning }
      #expect(warnings.map(\.check) == ["max_slot_wal_keep_size", "wal_sender_timeout"])
      let mends = [
        "ALTER SYSTEM SET max_replication_slots = 10;", "ALTER SYSTEM SET max_wal_senders = 10;",
        "ALTER SYSTEM SET max_slot_wal_keep_size = -1;", "ALTER SYSTEM SET wal_sender_timeout = '60s';",
      ]
      for mend in mends { #expect(report.findings.contains { $0.remedy.contains(mend) }, "\(mend)") }
      try await SQLSession.run(mends, on: cluster.superuser)
      try await cluster.restart()
      let mended = try await Preflight.check(source: cluster.superuser, target: databases.target)
      #expect(mended.findings.filter { $0.severity > .note } == [])
    }
  }

  @Test("A standby as an end blocks")
  func standby() async throws {
    try await withSource([:]) { cluster, databases in
      try await cluster.stop()
      // Without a primary to follow it stays in recovery for good.
      try Data().write(to: URL(filePath: "\(cluster.dataDirectory)/standby.signal"))
      try await cluster.start()
      let source = try await Preflight.check(source: cluster.superuser, target: databases.target)
      #expect(source.findings("recovery").map(\.object) == ["source"])
      let target = try await Preflight.check(source: databases.source, target: cluster.superuser)
      #expect(target.findings("recovery").map(\.object) == ["target"])
      #expect(source.isBlocked && target.isBlocked)
    }
  }

  @Test(
    "Through a transaction pooler nothing is done, and its other clients' sessions stay as they are",
    .enabled(if: PgBouncer.isInstalled))
  func pooler() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "pooled") { databases in
      let pooler = try await PgBouncer.start(before: databases.source)
      let client = try await SQLSession(pooler.connection)
      func settings() async throws -> String? {
        try await client.value(
          "SELECT string_agg(name || setting, ' ' ORDER BY name) FROM pg_settings WHERE source = 'session'")
      }
      let before = try await settings()
      let replicate = ReplicateProcess(source: pooler.connection, target: databases.target)
      for command in [["check"], ["start"], ["prepare", "--yes", "--restart-command", "true"]] {
        let run = try await replicate.run(command)
        #expect(run.exitCode == 3 && run.errors.contains("a pooler (PgBouncer"), "\(run.output)\(run.errors)")
        #expect(run.errors.contains("Give --source the server's own host and port."), "\(run.errors)")
      }
      #expect(try await settings() == before)
      await client.close()
      try await pooler.stop()
    }
  }
}
