import Clusters
import Foundation
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// Situations are made on real servers; preflight must see each, and no longer once its own remedy was run.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct PreflightTests {
  struct Situation: Sendable, CustomTestStringConvertible {
    enum End: Sendable { case source, target }

    var name: String
    /// Where `setup` runs.
    var setupEnd = End.source
    var setup: [String]
    var check: String
    var object: String
    var severity = Finding.Severity.blocker
    /// The part of the remedy that is run.
    var mend: String
    var mendEnd = End.source
    var testDescription: String { name }
  }

  private static let fakeExtension = [
    "SET allow_system_table_mods = on",
    """
    INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    VALUES (65000, 'not_there', 10, 2200, false, '1.0')
    """,
  ]

  static let situations = [
    Situation(
      name: "no primary key", setup: ["CREATE TABLE bare (a int)"], check: "replica_identity",
      object: #"table "public"."bare""#, mend: #"ALTER TABLE "public"."bare" REPLICA IDENTITY FULL;"#),
    Situation(
      name: "deferrable primary key", setup: ["CREATE TABLE d (a int PRIMARY KEY DEFERRABLE)"],
      check: "replica_identity", object: #"table "public"."d""#,
      mend: #"ALTER TABLE "public"."d" REPLICA IDENTITY FULL;"#),
    Situation(
      name: "identity nothing",
      setup: ["CREATE TABLE n (a int PRIMARY KEY)", "ALTER TABLE n REPLICA IDENTITY NOTHING"],
      check: "replica_identity", object: #"table "public"."n""#,
      mend: #"ALTER TABLE "public"."n" REPLICA IDENTITY DEFAULT;"#),
    Situation(
      name: "unique index instead of a key",
      setup: [
        #"CREATE TABLE u (a int NOT NULL, b int)"#, #"CREATE UNIQUE INDEX "K k" ON u (a)"#,
        "CREATE UNIQUE INDEX a_nullable ON u (b)",
      ], check: "replica_identity", object: #"table "public"."u""#,
      mend: #"ALTER TABLE "public"."u" REPLICA IDENTITY USING INDEX "K k";"#),
    Situation(
      name: "identity index dropped",
      setup: [
        "CREATE TABLE i (a int PRIMARY KEY, b int NOT NULL UNIQUE)",
        "ALTER TABLE i REPLICA IDENTITY USING INDEX i_b_key", "ALTER TABLE i DROP CONSTRAINT i_b_key",
      ], check: "replica_identity", object: #"table "public"."i""#,
      mend: #"ALTER TABLE "public"."i" REPLICA IDENTITY DEFAULT;"#),
    Situation(
      name: "leaf without a key",
      setup: [
        "CREATE TABLE root (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9)",
      ], check: "replica_identity", object: #"table "public"."leaf""#,
      mend: #"ALTER TABLE "public"."leaf" REPLICA IDENTITY FULL;"#),
    Situation(
      name: "extension that the target lacks", setup: fakeExtension, check: "extension",
      object: #"extension "not_there""#, mend: #"DROP EXTENSION "not_there";"#),
    Situation(
      name: "schema replicate on the target", setupEnd: .target,
      setup: ["CREATE SCHEMA replicate", "CREATE TABLE replicate.migration (only_row boolean)"],
      check: "target_leftovers", object: #"target schema "replicate""#,
      mend: "DROP SCHEMA replicate CASCADE;", mendEnd: .target),
    Situation(
      name: "schema replicate on the source",
      setup: [
        "CREATE SCHEMA replicate", "COMMENT ON SCHEMA replicate IS 'Fence of a migration by replicate; …'",
      ], check: "own_leftovers", object: #"source schema "replicate""#,
      mend: "DROP SCHEMA replicate CASCADE;"),
    Situation(
      name: "our publication", setup: ["CREATE PUBLICATION preflight_own"], check: "own_leftovers",
      object: #"publication "preflight_own""#, mend: #"DROP PUBLICATION "preflight_own";"#),
    Situation(
      name: "our slot",
      setup: ["SELECT pg_create_logical_replication_slot('preflight_own', 'pgoutput')"],
      check: "own_leftovers", object: #"replication slot "preflight_own""#,
      mend: "SELECT pg_drop_replication_slot('preflight_own');"),
  ]

  @Test("A clean pair of databases has no blocker and no warning")
  func clean() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "clean") { databases in
      try await SQLSession.run(
        [
          "CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)",
          "CREATE TABLE event (at timestamptz, id int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)",
          "CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
          "CREATE VIEW v AS SELECT name FROM customer", "CREATE TEMPORARY TABLE scratch (a int)",
          "INSERT INTO customer (name) SELECT 'c' || n FROM generate_series(1, 10) AS n",
        ], on: databases.source)
      let report = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(report.findings.filter { $0.severity > .note } == [])
      #expect(report.findings("tables") == [])
    }
  }

  @Test("A situation is found by its name, and no longer after its remedy", arguments: situations)
  func situation(_ situation: Situation) async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "situation") { databases in
      func server(_ end: Situation.End) -> Clusters.ConnectionString {
        end == .source ? databases.source : databases.target
      }
      try await SQLSession.run(situation.setup, on: server(situation.setupEnd))
      let report = try await Preflight.check(
        source: databases.source, target: databases.target, name: "preflight_own")
      let found = report.findings.filter { $0.severity > .note }
      let finding = try #require(found.first, "nothing was found")
      #expect(found.count == 1, "\(found)")
      #expect(finding.check == situation.check && finding.object == situation.object)
      #expect(finding.severity == situation.severity)
      try #require(finding.remedy.contains(situation.mend), "\(finding.remedy)")

      try await SQLSession.run([situation.mend], on: server(situation.mendEnd))
      let mended = try await Preflight.check(
        source: databases.source, target: databases.target, name: "preflight_own")
      #expect(mended.findings.filter { $0.severity > .note } == [])
    }
  }

  @Test("--replica-identity full and --exclude-table lift what they are for")
  func options() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "options") { databases in
      try await SQLSession.run(
        [
          "CREATE TABLE parent (id int PRIMARY KEY DEFERRABLE)",
          "CREATE TABLE keyless (a int)", "CREATE TABLE other (a int UNIQUE)",
          "CREATE TABLE child (id int PRIMARY KEY, other int REFERENCES other (a))",
          "SELECT lo_create(0)",
        ], on: databases.source)
      func check(_ configure: (inout MigrationOptions) -> Void) async throws -> PreflightReport {
        try await Preflight.check(source: databases.source, target: databases.target, configure)
      }
      let full = try await check { $0.setsReplicaIdentityFull = true }
      #expect(full.findings("replica_identity").map(\.severity) == [.note, .note, .note])
      #expect(full.blockers == [])
      #expect(full.findings("large_objects").map(\.severity) == [.note])

      let excluded = try await check {
        $0.leavesLargeObjectsBehind = true
        $0.excluded = ["parent", "keyless", "other", "missing"].map { .init(schema: "public", name: $0) }
      }
      #expect(excluded.blockers.map(\.check) == ["excluded_table", "excluded_reference"])
      #expect(excluded.blockers.first?.object == #"table "public"."missing""#)
      #expect(excluded.blockers.last?.object == #"table "public"."child""#)
      #expect(excluded.findings("large_objects").map(\.severity) == [.warning])
    }
  }

  @Test("What moves in another way than tables is a note that names it")
  func notes() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "notes") { databases in
      try await SQLSession.run(
        [
          "CREATE UNLOGGED TABLE cache (a int)", "INSERT INTO cache SELECT generate_series(1, 1000)",
          "CREATE MATERIALIZED VIEW totals AS SELECT 1 AS one",
          "CREATE EXTENSION postgres_fdw", "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
          "CREATE FOREIGN TABLE distant (a int) SERVER far",
          "CREATE FUNCTION f () RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$",
          "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION f ()",
          "CREATE PUBLICATION everything FOR ALL TABLES",
          "CREATE FUNCTION g () RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
          "CREATE TRIGGER audit AFTER INSERT ON cache EXECUTE FUNCTION g ()",
          "ALTER TABLE cache ENABLE ALWAYS TRIGGER audit",
        ], on: databases.source)
      let report = try await Preflight.check(source: databases.source, target: databases.target)
      #expect(report.findings.allSatisfy { $0.severity == .note }, "\(report.findings)")
      #expect(
        Set(report.findings.map(\.object)) == [
          #"unlogged table "public"."cache""#, "materialized view public.totals",
          "foreign table public.distant", "event trigger watch", #"publication "everything""#,
          #"trigger "audit" on table "public"."cache""#,
        ])
      #expect(report.findings("unlogged_table").first?.why.contains(" 0 kB") == false)
    }
  }
}
