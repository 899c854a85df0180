import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// What is in the databases, and what it means.
@Suite struct ObjectFindingsTests {
  private let events = RelationName(schema: "public", name: "events")

  private func table(_ name: String, identity: Bool = true) -> Relation {
    Relation(
      oid: 1, name: RelationName(schema: "public", name: name), kind: .table, isPartition: false,
      isUnlogged: false, replicaIdentity: .primaryKey, hasUsableIdentity: identity, bytes: 0,
      estimatedRows: 0,
      columns: [])
  }

  @Test(
    arguments: [
      (Preflight.ReplicaIdentities.Lack.noPrimaryKey, "no primary key"),
      (.deferrablePrimaryKey, "DEFERRABLE"),
      (.nothing, "NOTHING"), (.missingIndex, "index"),
    ])
  func `a table without identity blocks, and the reason is named`(
    lack: Preflight.ReplicaIdentities.Lack, word: String
  ) {
    let finding = Preflight.ReplicaIdentities.judge(.init(table: events, lack: lack), setsFull: false)
    #expect(finding.severity == .blocker && finding.object == "table \"public\".\"events\"")
    #expect(finding.why.contains(word) && finding.why.contains("source itself would refuse"))
    #expect(finding.remedy.contains("ALTER TABLE \"public\".\"events\" REPLICA IDENTITY FULL;"))
    #expect(finding.remedy.contains("--replica-identity full"))
    #expect(finding.remedy.contains("--exclude-table public.events"))
    #expect(
      Preflight.ReplicaIdentities.judge(.init(table: events, lack: lack), setsFull: true).severity == .note)
  }

  @Test func `an index or key that could be the identity is proposed first`() {
    let index = Preflight.ReplicaIdentities.judge(
      .init(table: events, lack: .noPrimaryKey, candidateIndex: "e\"k"), setsFull: false)
    #expect(
      index.remedy.hasPrefix(#"ALTER TABLE "public"."events" REPLICA IDENTITY USING INDEX "e""k"; or"#))
    let key = Preflight.ReplicaIdentities.judge(
      .init(table: events, lack: .nothing, candidateIndex: "k", hasPrimaryKey: true), setsFull: false)
    #expect(key.remedy.hasPrefix(#"ALTER TABLE "public"."events" REPLICA IDENTITY DEFAULT; or"#))
  }

  @Test func `what lacks an identity follows from the identity and the key`() {
    #expect(Preflight.ReplicaIdentities.lack(.primaryKey, isDeferrable: false) == .noPrimaryKey)
    #expect(Preflight.ReplicaIdentities.lack(.primaryKey, isDeferrable: true) == .deferrablePrimaryKey)
    #expect(Preflight.ReplicaIdentities.lack(.nothing, isDeferrable: true) == .nothing)
    #expect(Preflight.ReplicaIdentities.lack(.index, isDeferrable: false) == .missingIndex)
  }

  @Test func `an exclusion that names nothing blocks, a real one does not`() {
    let catalog = Catalog(relations: [table("events")])
    let wrong = RelationName(schema: "public", name: "Events")
    let found = Preflight.SelectedTables.judge(catalog: catalog, excluded: [events, wrong])
    #expect(found.map(\.object) == ["table \"public\".\"Events\""])
    #expect(found.map(\.severity) == [.blocker])
    #expect(
      Preflight.SelectedTables.judge(catalog: Catalog(relations: []), excluded: []).map(\.severity) == [.note]
    )
  }

  @Test func `ownership is one finding an owner, with the grant that mends it`() {
    let tables = (1...7).map {
      Preflight.SourceOwnership.ForeignTable(name: .init(schema: "s", name: "t\($0)"), owner: "app")
    }
    let found = Preflight.SourceOwnership.judge(
      tables + [.init(name: events, owner: "Other")], role: "me")
    #expect(found.map(\.remedy) == [#"GRANT "Other" TO "me";"#, #"GRANT "app" TO "me";"#])
    #expect(found.first?.object == "table \"public\".\"events\"")
    #expect(found.last?.object.hasPrefix("7 tables: ") == true)
    #expect(found.last?.object.hasSuffix(", and 2 more") == true)
  }

  @Test func `privileges on the source are named with their grants, Amazon's on Amazon`() {
    let facts = Preflight.SourcePrivileges.Facts(mayReplicate: false, mayCreate: false, readsAllStats: false)
    let found = Preflight.SourcePrivileges.judge(facts)
    #expect(found.map(\.severity) == [.blocker, .blocker, .warning])
    #expect(found[0].remedy.hasPrefix(#"ALTER ROLE "replicate" REPLICATION;"#))
    #expect(found[1].remedy == #"GRANT CREATE ON DATABASE "app" TO "replicate";"#)
    let amazon = Preflight.SourcePrivileges.judge(.init(mayReplicate: false, isRDS: true))
    #expect(amazon.map(\.remedy) == [#"GRANT rds_replication TO "replicate";"#])
  }

  @Test(
    arguments: [
      ("schema", nil, #"GRANT USAGE ON SCHEMA "a" TO "r";"#),
      ("table", "b", #"GRANT SELECT ON TABLE "a"."b" TO "r";"#),
      ("sequence", "b", #"GRANT SELECT ON SEQUENCE "a"."b" TO "r";"#),
      ("policy", "b", #"ALTER ROLE "r" BYPASSRLS;"#),
      ("materialized view", "b", #"GRANT SELECT ON TABLE "a"."b" TO "r";"#),
      ("view", "b", #"GRANT "o" TO "r";"#),
    ] as [(String, String?, String)])
  func `what cannot be read is named with its grant, and blocks unless it is derived`(
    kind: String, name: String?, remedy: String
  ) {
    let lack = Preflight.SourceOwnership.lack(
      kind: kind, schema: "a", name: name, owner: "o", role: #""r""#)
    #expect(Preflight.SourceOwnership.judge(lack).remedy == remedy)
    #expect((lack.severity == .blocker) == !kind.contains("view"))
  }

  @Test func `the replica role is granted by what the target's version knows`() {
    func remedy(_ version: Int, isRDS: Bool) -> String? {
      Preflight.TargetPrivileges.judge(.init(version: version, isRDS: isRDS, replicaRoleRefusal: "no")).first?
        .remedy
    }
    #expect(remedy(15, isRDS: false)?.hasPrefix("GRANT SET ON PARAMETER session_replication_role") == true)
    #expect(remedy(14, isRDS: false)?.hasPrefix(#"ALTER ROLE "replicate" SUPERUSER"#) == true)
    #expect(remedy(17, isRDS: true) == #"GRANT rds_superuser TO "replicate";"#)
    #expect(Preflight.TargetPrivileges.judge(.init(mayCreate: false, mayCreateInPublic: false)).count == 2)
  }

  @Test func `a prepared transaction blocks a new migration by its name`() {
    let prepared = Preflight.PreparedTransactions.Prepared(
      gid: "it's", owner: "app", database: "shop", ageSeconds: 9)
    let finding = Preflight.PreparedTransactions.judge(prepared, isResuming: false)
    #expect(finding.severity == .blocker && finding.remedy.contains("ROLLBACK PREPARED 'it''s';"))
    #expect(Preflight.PreparedTransactions.judge(prepared, isResuming: true).severity == .warning)
  }

  @Test func `a long transaction is a warning with its process`() {
    let finding = Preflight.LongTransactions.judge(
      .init(pid: 7, role: "app", application: "rails", database: "shop", ageSeconds: 90, hasWritten: true))
    #expect(finding.severity == .warning && finding.why.contains("90 s"))
    #expect(finding.remedy.contains("pg_terminate_backend(7)"))
  }

  @Test func `what an earlier migration left blocks with the command that drops it`() {
    let found = Preflight.OwnLeftovers.judge(
      .init(slotIsActive: true, hasPublication: true, hasSchema: true), slot: "s", publication: "p")
    #expect(
      found.map(\.remedy)
        == [
          "SELECT pg_drop_replication_slot('s');", #"DROP PUBLICATION "p";"#,
          "DROP SCHEMA replicate CASCADE;",
        ])
    #expect(found.allSatisfy { $0.severity == .blocker } && found[0].why.contains("right now"))
    #expect(Preflight.OwnLeftovers.judge(.init(), slot: "s", publication: "p").isEmpty)
  }

  @Test func `a subscription that writes into the source blocks, a disabled one is a note`() {
    let stops: [(Replicator.Kind, String)] = [
      (.subscription, "ALTER SUBSCRIPTION \"it's\" DISABLE;"),
      (.subscriptionOf("pglogical"), "SELECT pglogical.alter_subscription_disable('it''s', true);"),
      (.subscriptionOf("spock"), "SELECT spock.sub_disable('it''s', true);"),
    ]
    for (kind, remedy) in stops {
      let finding = Preflight.Subscriptions.judge(Replicator(kind, "it's", isEnabled: true))
      #expect(finding.severity == .blocker && finding.remedy == remedy)
      #expect(Preflight.Subscriptions.judge(Replicator(kind, "it's", isEnabled: false)).severity == .note)
    }
    let worker = Replicator(.worker(pid: 7), "pglogical apply 1:2", isEnabled: true)
    #expect(Preflight.Subscriptions.judge(worker).remedy.contains("pglogical.subscription"))
    #expect(Preflight.Subscriptions.judge(origin: "o").severity == .note)
  }

  @Test func `large objects block unless they are left behind`() {
    func severities(_ facts: Preflight.LargeObjects.Facts, leavesBehind: Bool = false) -> [Finding.Severity] {
      Preflight.LargeObjects.judge(facts, role: "r", leavesBehind: leavesBehind).map(\.severity)
    }
    #expect(severities(.init()).isEmpty)
    #expect(severities(.init(count: 3)) == [.note])
    #expect(severities(.init(count: 3, seesPages: false)) == [.warning])
    #expect(severities(.init(count: 3, closedOwners: ["a", "b"])) == [.blocker, .blocker, .note])
    #expect(severities(.init(count: 3, closedOwners: ["a"]), leavesBehind: true) == [.warning])
  }

  @Test func `special objects are one note a kind`() {
    let objects: [Preflight.SpecialObjects.Special] = [
      .init(kind: .unlogged, name: "a", bytes: 2048), .init(kind: .unlogged, name: "b", bytes: 1024),
      .init(kind: .eventTrigger, name: "e"),
    ]
    let found = Preflight.SpecialObjects.judge(objects, targetIsSuperuser: true)
    #expect(found.map(\.object) == ["2 unlogged tables: a, b", "event trigger e"])
    #expect(found.allSatisfy { $0.severity == .note } && found[0].why.contains("3 kB"))
    #expect(
      Preflight.SpecialObjects.judge(objects, targetIsSuperuser: false).map(\.severity) == [.note, .warning])
  }
}
