import Testing

@testable import MigrationEngine

/// What the servers' versions and settings mean.
@Suite struct ServerFindingsTests {
  @Test(
    arguments: [
      (12, 17, [Finding.Severity.blocker]), (13, 13, []), (13, 18, []), (15, 17, []), (16, 15, [.blocker]),
      (13, 12, [.blocker, .blocker]),
    ] as [(Int, Int, [Finding.Severity])])
  func `a version that was never tried blocks, and so does a target older than its source`(
    source: Int, target: Int, severities: [Finding.Severity]
  ) {
    #expect(Preflight.ServerVersions.judge(source: source, target: target).map(\.severity) == severities)
  }

  @Test(
    arguments: [
      ("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", 15), ("pg_restore (PostgreSQL) 18beta1", 18),
      ("pg_dump (PostgreSQL) 9.6.24", 9), ("pg_dump (EnterpriseDB) 15.2", nil), ("", nil),
      ("pg_dump (PostgreSQL) ", nil), ("(PostgreSQL) 99999999999999999999999", nil),
    ] as [(String, Int?)])
  func `a client program's major version is read from what it says`(text: String, major: Int?) {
    #expect(Preflight.ClientPrograms.major(in: text) == major)
  }

  @Test func `client programs that are missing or older than the source block`() throws {
    let missing = Preflight.ClientPrograms.judge(
      "pg_dump", version: .unknown("not found"), source: 15, target: 17)
    let finding = try #require(missing.first)
    #expect(finding.severity == .blocker && finding.object == "pg_dump")
    #expect(finding.why.contains("not found") && finding.remedy.contains("postgresql-client-15"))
    #expect(Preflight.ClientPrograms.judge("pg_dump", version: .major(14), source: 15, target: 17).count == 1)
    #expect(Preflight.ClientPrograms.judge("pg_dump", version: .major(15), source: 15, target: 17).isEmpty)
    #expect(Preflight.ClientPrograms.judge("pg_dump", version: .major(18), source: 15, target: 17).isEmpty)
  }

  @Test func `a pg_restore that sets what the target does not know blocks`() {
    #expect(
      Preflight.ClientPrograms.judge("pg_restore", version: .major(17), source: 15, target: 16).count == 1)
    #expect(Preflight.ClientPrograms.judge("pg_restore", version: .major(16), source: 15, target: 16).isEmpty)
    #expect(Preflight.ClientPrograms.judge("pg_restore", version: .major(17), source: 15, target: 17).isEmpty)
    // There is no version from 18 to 16: the target's own finding says what to do.
    #expect(Preflight.ClientPrograms.judge("pg_restore", version: .major(18), source: 18, target: 15).isEmpty)
  }

  @Test func `a server that is fit gives no findings`() {
    #expect(Preflight.SourceSettings.judge(.init()).isEmpty)
    #expect(Preflight.ReplicationCapacity.judge(.init()).isEmpty)
    #expect(Preflight.SourcePrivileges.judge(.init()).isEmpty)
    #expect(Preflight.TargetPrivileges.judge(.init()).isEmpty)
    #expect(Preflight.WriteReadiness.judge(source: .init(), target: .init(), isResuming: false).isEmpty)
  }

  @Test func `a wal_level below logical blocks, in Amazon's words too`() throws {
    let finding = try #require(Preflight.SourceSettings.judge(.init(walLevel: "replica")).first)
    #expect(finding.severity == .blocker && finding.check == "wal_level" && finding.object == "source")
    #expect(finding.remedy.contains("ALTER SYSTEM SET wal_level = logical"))
    #expect(finding.remedy.contains("rds.logical_replication = 1"))
  }

  @Test(
    arguments: [
      (nil, 1 << 40, false), (1 << 30, 1 << 20, false), ((1 << 30) - 1, 0, true), (5 << 30, 6 << 30, true),
      (6 << 30, 5 << 30, false),
    ] as [(Int64?, Int64, Bool)])
  func `a slot that may keep less WAL than the database is large is a warning`(
    limit: Int64?, bytes: Int64, isFound: Bool
  ) {
    let found = Preflight.SourceSettings.judge(.init(slotKeepLimit: limit, databaseBytes: bytes))
    #expect(found.map(\.severity) == (isFound ? [.warning] : []))
  }

  @Test(arguments: [(0, false), (1, true), (9_999, true), (10_000, false)] as [(Int64, Bool)])
  func `a short wal_sender_timeout is a warning, none is fine`(milliseconds: Int64, isFound: Bool) {
    #expect(Preflight.SourceSettings.judge(.init(walSenderTimeout: milliseconds)).isEmpty != isFound)
  }

  @Test(
    arguments: [(0, nil), (60, .warning), (86_400, .note)] as [(Int64, Finding.Severity?)])
  func `slots that time out when idle are named`(seconds: Int64, severity: Finding.Severity?) {
    #expect(Preflight.SourceSettings.judge(.init(idleSlotTimeout: seconds)).first?.severity == severity)
  }

  @Test func `output plugins without pgoutput block, and the advice keeps those that there are`() throws {
    func judge(_ list: String?) -> [Finding] {
      Preflight.SourceSettings.judge(.init(outputPlugins: list.map { OutputPlugins($0) }))
    }
    #expect(judge(nil).isEmpty)
    #expect(judge("test_decoding, pgoutput").isEmpty)
    let finding = try #require(judge("test_decoding, \"Wal2JSON\"").first)
    #expect(finding.severity == .blocker && finding.check == "output_plugin_libraries")
    #expect(
      finding.remedy.hasPrefix(
        "ALTER SYSTEM SET output_plugin_libraries = 'test_decoding', 'Wal2JSON', 'pgoutput'; "))
    #expect(judge("").first?.remedy.contains("= 'pgoutput';") == true)
    #expect(judge("\"\"\"pgoutput\"\"\"").count == 1)
  }

  @Test func `a new migration needs two slots and walsenders, a resumed one a single one`() {
    var facts = Preflight.ReplicationCapacity.Facts(
      maxSlots: 10, usedSlots: 8, maxWalSenders: 10, usedWalSenders: 8)
    #expect(Preflight.ReplicationCapacity.judge(facts).isEmpty)
    facts.usedSlots = 9
    facts.usedWalSenders = 9
    #expect(
      Preflight.ReplicationCapacity.judge(facts).map(\.check) == ["max_replication_slots", "max_wal_senders"])
    #expect(Preflight.ReplicationCapacity.judge(facts).allSatisfy { $0.severity == .blocker })
    facts.isResuming = true
    #expect(Preflight.ReplicationCapacity.judge(facts).isEmpty)
    facts.usedSlots = 10
    #expect(Preflight.ReplicationCapacity.judge(facts).map(\.check) == ["max_replication_slots"])
  }

  @Test func `a lost slot blocks the migration that it belongs to`() {
    #expect(Preflight.ReplicationCapacity.judge(.init(isSlotLost: true)).isEmpty)
    #expect(
      Preflight.ReplicationCapacity.judge(.init(isResuming: true, isSlotLost: true)).map(\.check) == [
        "slot_lost"
      ])
  }

  @Test func `one database as both ends blocks, a restored snapshot of it does not`() {
    let one = Preflight.SameDatabase.Identity(started: "2020", database: "5")
    var other = one
    #expect(Preflight.SameDatabase.judge(source: one, target: other).map(\.severity) == [.blocker])
    other.started = "2021"
    #expect(Preflight.SameDatabase.judge(source: one, target: other).isEmpty)
    other = one
    other.database = "6"
    #expect(Preflight.SameDatabase.judge(source: one, target: other).isEmpty)
  }

  @Test func `standbys block, and a read-only default blocks on the target alone`() {
    let standby = Preflight.WriteReadiness.Facts(isInRecovery: true)
    #expect(
      Preflight.WriteReadiness.judge(source: standby, target: standby, isResuming: false).map(\.object)
        == ["source", "target"])
    let readOnly = Preflight.WriteReadiness.Facts(isReadOnlyByDefault: true)
    let both = Preflight.WriteReadiness.judge(source: readOnly, target: readOnly, isResuming: false)
    #expect(both.map(\.severity) == [.warning, .blocker])
    #expect(Preflight.WriteReadiness.judge(source: readOnly, target: .init(), isResuming: true).isEmpty)
  }

  @Test func `sessions that share a server are found`() {
    #expect(Preflight.Pooler.judge(end: "source", first: [1, 1], second: 2).isEmpty)
    #expect(Preflight.Pooler.judge(end: "source", first: [1, 2], second: 1).map(\.severity) == [.blocker])
    #expect(Preflight.Pooler.judge(end: "target", first: [1, 1], second: 1).map(\.object) == ["target"])
    #expect(Preflight.Pooler.judge(end: "target", first: [1, 3], second: 2).count == 1)
  }

  @Test func `a lock table that the schema would fill is a warning`() {
    let facts = Preflight.LockTable.Facts(perTransaction: 64, capacity: 1000)
    #expect(Preflight.LockTable.judge("target", facts, needed: 800, why: "").isEmpty)
    let found = Preflight.LockTable.judge("target", facts, needed: 2500, why: "")
    #expect(found.map(\.severity) == [.warning])
    #expect(found.first?.remedy.contains("max_locks_per_transaction = 256;") == true)
  }
}
