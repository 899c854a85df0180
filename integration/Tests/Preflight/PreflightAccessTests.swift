import Clusters
import Foundation
import LibPQ
import Testing

@testable import MigrationEngine

/// Who asks, from where, and between which databases.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct PreflightAccessTests {
  @Test("A role without privileges is shown every grant it needs, and these suffice")
  func privileges() async throws {
    let pair = try await ClusterPair.shared
    let role = "preflight_role_\(getpid())"
    let owner = "preflight_owner_\(getpid())"
    let roles = [
      "CREATE ROLE \(role) LOGIN PASSWORD 'secret'", "CREATE ROLE \(owner)",
    ]
    for server in [pair.source, pair.target] { try await SQLSession.run(roles, on: server) }
    try await pair.withFreshDatabases(named: "privileges") { databases in
      try await SQLSession.run(
        [
          "CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)",
          "CREATE SEQUENCE s", "ALTER TABLE a OWNER TO \(owner)", "ALTER TABLE b OWNER TO \(owner)",
          "ALTER SEQUENCE s OWNER TO \(owner)", "ALTER TABLE b ENABLE ROW LEVEL SECURITY",
          "ALTER TABLE b FORCE ROW LEVEL SECURITY",
        ], on: databases.source)
      let login = ["user": role, "password": "secret"]
      func check() async throws -> PreflightReport {
        try await Preflight.check(
          source: databases.source.with(login), target: databases.target.with(login))
      }
      let report = try await check()
      let quoted = "\"\(role)\""
      let database = "\"\(databases.name)\""
      var source = [
        "ALTER ROLE \(quoted) REPLICATION;", "GRANT CREATE ON DATABASE \(database) TO \(quoted);",
        "GRANT \"\(owner)\" TO \(quoted);", "GRANT pg_read_all_stats TO \(quoted);",
        "GRANT SELECT ON SEQUENCE \"public\".\"s\" TO \(quoted);",
        "GRANT SELECT ON TABLE \"public\".\"a\" TO \(quoted);", "ALTER ROLE \(quoted) BYPASSRLS;",
      ]
      var target = [
        "GRANT CREATE ON DATABASE \(database) TO \(quoted);", "GRANT \"\(owner)\" TO \(quoted);",
        "ALTER ROLE \(quoted) REPLICATION;", "ALTER ROLE \(quoted) BYPASSRLS;",
      ]
      source.append(try await Self.replicaRoleGrant(on: databases.source, to: quoted))
      target.append(try await Self.replicaRoleGrant(on: databases.target, to: quoted))
      if report.findings.contains(where: { $0.object == "target schema \"public\"" }) {
        target.append("GRANT CREATE ON SCHEMA public TO \(quoted);")
        target.append("GRANT CREATE ON SCHEMA public TO \"\(owner)\";")
      }
      for mend in source + target {
        #expect(report.findings.contains { $0.remedy.contains(mend) }, "\(mend) in \(report.findings)")
      }
      #expect(report.findings("replication_connection").count == 1)
      try await SQLSession.run(source, on: databases.source)
      try await SQLSession.run(target, on: databases.target)
      // The grants on the source's database are its own, and the target's has another owner.
      let rest = try await check().findings.filter { $0.severity > .note }
      #expect(rest.map(\.check) == ["database_properties"])
    }
    for server in [pair.source, pair.target] {
      try await SQLSession.run(
        ["DROP OWNED BY \(role)", "DROP ROLE \(role)", "DROP ROLE \(owner)"], on: server)
    }
  }

  private static func replicaRoleGrant(on server: Clusters.ConnectionString, to role: String) async throws
    -> String
  {
    let session = try await SQLSession(server)
    let version = try await session.value("SHOW server_version_num").flatMap(Int.init) ?? 0
    await session.close()
    return version >= 150_000
      ? "GRANT SET ON PARAMETER session_replication_role TO \(role);" : "ALTER ROLE \(role) SUPERUSER;"
  }

  @Test("What a cutover calls after its fence is called before: a server that refuses it blocks, either end")
  func refusedCalls() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "refused") { databases in
      let refusal = """
        CREATE FUNCTION pg_catalog.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS
        $$BEGIN RAISE feature_not_supported USING MESSAGE = 'not with this storage'; END$$
        """
      for (server, end) in [(databases.target, "target"), (databases.source, "source")] {
        try await SQLSession.run(
          [
            "SET allow_system_table_mods = on",
            "ALTER FUNCTION pg_catalog.pg_current_wal_lsn() RENAME TO own_current_wal_lsn", refusal,
          ], on: server)
        let report = try await Preflight.check(source: databases.source, target: databases.target)
        let found = report.findings("system_privileges").filter { $0.object == end }
        #expect(found.count == 1 && found[0].severity == .blocker, "\(report.findings)")
        #expect(found.first?.why.contains("not with this storage (SQLSTATE 0A000)") == true, "\(found)")
      }
    }
  }

  @Test("Roles that are missing on the target are found by owner, grant and policy")
  func roles() async throws {
    let pair = try await ClusterPair.shared
    let names = ["owner", "reader", "subject", "stranger"].map { "preflight_named_\($0)_\(getpid())" }
    try await SQLSession.run(
      ["CREATE ROLE \(names[0]) LOGIN"] + names.dropFirst().map { "CREATE ROLE \($0)" }, on: pair.source)
    try await pair.withFreshDatabases(named: "roles") { databases in
      try await SQLSession.run(
        [
          "CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t OWNER TO \(names[0])",
          "GRANT SELECT ON t TO \(names[1])", "CREATE POLICY p ON t TO \(names[2])",
        ], on: databases.source)
      let report = try await Preflight.check(source: databases.source, target: databases.target)
      let mends = [
        "CREATE ROLE \"\(names[0])\" LOGIN;", "CREATE ROLE \"\(names[1])\";",
        "CREATE ROLE \"\(names[2])\";",
      ]
      #expect(report.blockers.map(\.remedy) == mends.map { "On the target: \($0) Or give --create-roles." })
      try await SQLSession.run(mends, on: databases.target)
      let mended = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(mended.blockers == [])
    }
    try await SQLSession.run(names.map { "DROP ROLE \($0)" }, on: pair.source)
    try await SQLSession.run(names.prefix(3).map { "DROP ROLE \($0)" }, on: pair.target)
  }

  @Test("Owners of what is not restored, extensions and our own objects, need not be on the target")
  func ownersLeftBehind() async throws {
    let pair = try await ClusterPair.shared
    let role = "preflight_engine_\(getpid())"
    try await SQLSession.run(["CREATE ROLE \(role) SUPERUSER"], on: pair.source)
    try await pair.withFreshDatabases(named: "owners") { databases in
      let name = "preflight_owners"
      try await SQLSession.run(
        [
          "SET ROLE \(role)", "CREATE EXTENSION hstore", "CREATE SCHEMA replicate",
          "CREATE TABLE replicate.fence (only_row boolean PRIMARY KEY)",
          "CREATE FUNCTION replicate.guard () RETURNS int LANGUAGE sql AS 'SELECT 1'",
          "CREATE PUBLICATION \(name)",
        ], on: databases.source)
      func roles() async throws -> [Finding] {
        try await Preflight.check(
          source: databases.source, target: databases.target, isResuming: true, name: name
        ).findings("role")
      }
      #expect(try await roles() == [])
      try await SQLSession.run(
        ["SET ROLE \(role)", "CREATE FUNCTION f () RETURNS int LANGUAGE sql AS 'SELECT 1'"],
        on: databases.source)
      #expect(try await roles().map(\.object) == ["role \"\(role)\""])
    }
    try await SQLSession.run(["DROP ROLE \(role)"], on: pair.source)
  }

  @Test("A target that is not empty blocks until it is made anew")
  func leftovers() async throws {
    let pair = try await ClusterPair.shared
    try await pair.withFreshDatabases(named: "leftovers") { databases in
      try await SQLSession.run(
        ["CREATE TABLE leftover (a int)", "CREATE TYPE mood AS ENUM ('fine')", "CREATE SCHEMA more"],
        on: databases.target)
      let report = try await Preflight.check(source: databases.source, target: databases.target)
      let finding = try #require(report.blockers.first)
      #expect(report.blockers.count == 1 && finding.check == "target_not_empty")
      #expect(finding.why.contains("table public.leftover, schema more, type public.mood"))
      let name = "\"\(databases.name)\""
      let mend = "DROP DATABASE \(name); CREATE DATABASE \(name) TEMPLATE template0;"
      try #require(finding.remedy.contains(mend))
      try await SQLSession.run(
        mend.split(separator: ";").map(String.init), on: databases.target.with(["dbname": "postgres"]))
      let mended = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(mended.blockers == [])
    }
  }

  @Test("What a migration made itself does not stop it from being resumed")
  func resuming() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "resuming") { databases in
      let name = "preflight_resumed"
      try await SQLSession.run(
        [
          "CREATE TABLE t (id int PRIMARY KEY)", "CREATE SCHEMA replicate", "CREATE PUBLICATION \(name)",
          "SELECT pg_create_logical_replication_slot('\(name)', 'pgoutput')",
        ], on: databases.source)
      try await SQLSession.run(
        ["CREATE TABLE t (id int PRIMARY KEY)", "CREATE SCHEMA replicate"], on: databases.target)
      func blockers(isResuming: Bool) async throws -> [Finding] {
        try await Preflight.check(
          source: databases.source, target: databases.target, isResuming: isResuming, name: name
        ).blockers
      }
      #expect(try await blockers(isResuming: true) == [])
      #expect(try await blockers(isResuming: false).count == 5)
    }
  }

  @Test("A question that the server refuses to answer is a finding, and the other checks go on")
  func refusedQuestion() async throws {
    let pair = try await ClusterPair.shared
    let role = "preflight_curious_\(getpid())"
    try await SQLSession.run(["CREATE ROLE \(role) LOGIN PASSWORD 'secret'"], on: pair.source)
    try await pair.withFreshDatabases(named: "refused") { databases in
      try await SQLSession.run(
        ["REVOKE SELECT ON pg_catalog.pg_prepared_xacts FROM PUBLIC", "SELECT lo_create(0)"],
        on: databases.source)
      let report = try await Preflight.check(
        source: databases.source.with(["user": role, "password": "secret"]), target: databases.target)
      let finding = try #require(report.findings("prepared_transactions").first)
      #expect(finding.severity == .blocker && finding.why.contains("permission denied"))
      #expect(report.findings("large_objects").map(\.severity) == [.blocker, .warning])
    }
    try await SQLSession.run(["DROP ROLE \(role)"], on: pair.source)
  }

  @Test("A collation that the target does not have blocks")
  func collation() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "collation") { databases in
      try await SQLSession.run(
        [#"CREATE TABLE t (id int PRIMARY KEY, name text COLLATE "ucs_basic", plain text COLLATE "C")"#],
        on: databases.source)
      func blockers() async throws -> [String] {
        try await Preflight.check(source: databases.source, target: databases.target).blockers.map(
          \.object)
      }
      #expect(try await blockers() == [])
      try await SQLSession.run(
        ["SET allow_system_table_mods = on", "DELETE FROM pg_collation WHERE collname = 'ucs_basic'"],
        on: databases.target)
      #expect(try await blockers() == [#"collation "ucs_basic""#])
    }
  }

  @Test("A tablespace that the target does not have blocks")
  func tablespace() async throws {
    let pair = try await ClusterPair.shared
    let name = "preflight_space_\(getpid())"
    try await SQLSession.run(
      ["SET allow_in_place_tablespaces = on", "CREATE TABLESPACE \(name) LOCATION ''"], on: pair.source)
    try await pair.withFreshDatabases(named: "tablespace") { databases in
      try await SQLSession.run(
        ["CREATE TABLE t (id int PRIMARY KEY) TABLESPACE \(name)"], on: databases.source)
      let report = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(report.blockers.map(\.object) == ["tablespace \"\(name)\""])
    }
    try await SQLSession.run(["DROP TABLESPACE \(name)"], on: pair.source)
  }

  @Test("One database as both ends blocks")
  func sameDatabase() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "same") { databases in
      let report = try await Preflight.check(source: databases.source, target: databases.source)
      #expect(report.findings("same_database").map(\.severity) == [.blocker])
    }
  }

  @Test("A read-only default on the target blocks, though our own sessions do not mind")
  func readOnly() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "readonly") { databases in
      try await SQLSession.run(
        ["ALTER DATABASE \"\(databases.name)\" SET default_transaction_read_only = on"],
        on: databases.target)
      let report = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(report.blockers.map(\.check) == ["read_only"])
      let mend = "ALTER DATABASE \"\(databases.name)\" RESET default_transaction_read_only;"
      try #require(report.blockers.first?.remedy.contains(mend) == true)
      let session = try await SQLSession(databases.target)
      try await session.execute("SET default_transaction_read_only = off")
      try await session.execute(mend)
      await session.close()
      let mended = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(mended.blockers == [])
    }
  }

  @Test("A transaction that has long been open is named by its process")
  func longTransaction() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "long") { databases in
      let writer = try await SQLSession(databases.source)
      try await writer.execute("BEGIN")
      let pid = try #require(try await writer.value("SELECT pg_backend_pid() FROM pg_current_xact_id()"))
      func named() async throws -> Finding? {
        try await Preflight.check(
          source: databases.source, target: databases.target, longTransaction: .zero
        ).findings("long_transaction").first { $0.object == "transaction of process \(pid)" }
      }
      let finding = try #require(try await named())
      #expect(finding.severity == .warning && finding.why.contains("It has written"))
      let mend = "SELECT pg_terminate_backend(\(pid));"
      try #require(finding.remedy.contains(mend))
      try await SQLSession.run([mend], on: databases.source)
      try await waitUntil("the end of the transaction") { try await named() == nil }
      await writer.close()
    }
  }

  @Test("An inbound subscription blocks until it is disabled")
  func subscription() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "inbound") { databases in
      let session = try await SQLSession(databases.source)
      try await session.execute(
        """
        CREATE SUBSCRIPTION inbound CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p
        WITH (connect = false, slot_name = 'nowhere')
        """)
      try await session.execute("ALTER SUBSCRIPTION inbound ENABLE")
      let report = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(report.blockers.map(\.object) == [#"subscription "inbound""#])
      let mend = #"ALTER SUBSCRIPTION "inbound" DISABLE;"#
      #expect(report.blockers.first?.remedy == mend)
      try await session.execute(mend)
      let mended = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(mended.findings("subscription").map(\.severity) == [.note])
      try await session.execute("ALTER SUBSCRIPTION inbound SET (slot_name = NONE)")
      try await session.execute("DROP SUBSCRIPTION inbound")
      await session.close()
    }
  }

  @Test("Case 42: a SQL_ASCII source and a UTF8 target block, and another collation is named")
  func encoding() async throws {
    let pair = try await ClusterPair.shared
    try await pair.withFreshDatabases(named: "encoding") { databases in
      let name = "\(databases.name)_ascii"
      try await SQLSession.run(
        ["CREATE DATABASE \(name) TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"],
        on: pair.source)
      let report = try await Preflight.check(
        source: pair.source.with(["dbname": name]), target: databases.target)
      #expect(report.findings("encoding").map(\.severity) == [.blocker])
      #expect(report.findings("collation").map(\.severity) == [.warning])
      try await SQLSession.run(["DROP DATABASE \(name) WITH (FORCE)"], on: pair.source)
    }
  }
}
