import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Managed services give nobody a superuser: the grants that preflight asks for must carry a migration to
/// its end, and back.
@Suite(.serialized, .servers(about: 100), .timeLimit(.minutes(3)), .grantableParameters)
struct PlainRoleTests {
  @Test("Roles that are no superusers migrate, fence, cut over, carry writes back and roll back")
  func wholeMigration() async throws {
    try await withPlainRoles("plaincut") { scene, role, owner in
      // So many as check asks for at least.
      for end in [scene.databases.source, scene.databases.target] {
        try await SQLSession.run(["ALTER ROLE \(role) CONNECTION LIMIT 14"], on: end)
      }
      try await scene.source("SET ROLE \(owner)", "SELECT lo_from_bytea(4711, 'before')")
      try await makeForeignView(scene, owner)
      let engine = try await scene.start("--allow-unencrypted-target", reverse: Self.canReplicateBack())
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "INSERT INTO app.item (body) VALUES ('streamed')", "SELECT lo_put(4711, 0, 'after!')")
      try await expectVerified(scene)
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      guard try await Self.canReplicateBack() else {
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        return try await expectEqualEnds(scene)
      }
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      try await expectVerified(scene)
      try await expectEqualEnds(scene)
      // The superuser and the owner are kept out of the source as well, and the target is open to both.
      for settings in [[:], ["role": owner]] {
        let write = "INSERT INTO app.item (body) VALUES ('late')"
        let source = try await scene.refusal(
          of: write, on: scene.databases.source,
          settings: settings.merging(["default_transaction_read_only": "off"]) { $1 })
        #expect(source == "25006")
        let target = try await scene.refusal(of: write, on: scene.databases.target, settings: settings)
        #expect(target == nil)
      }
      #expect(try await scene.targetValue(Self.ownerOfItem) == owner)
      try await scene.target("DELETE FROM app.part WHERE id < 50", "SELECT lo_put(4711, 0, 'later!')")
      let rollback = try await scene.replicate.run("rollback", "--yes", "--verify", "full")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      try await expectEqualEnds(scene)
      let write = "INSERT INTO app.item (body) VALUES ('home')"
      #expect(try await scene.refusal(of: write, on: scene.databases.source) == nil)
      #expect(try await scene.refusal(of: write, on: scene.databases.target) == "25006")
    }
  }

  /// A materialized view of a role that ours is no member of on the source, where it only copies.
  /// Before PostgreSQL 15 only a superuser of the source can apply the target's writes to it.
  private static func canReplicateBack() async throws -> Bool { try await ClusterPair.sourceMajor() >= 15 }

  private func makeForeignView(_ scene: Scene, _ owner: String) async throws {
    try await scene.source(
      "CREATE MATERIALIZED VIEW app.summary AS SELECT count(*) AS n FROM app.item",
      "ALTER MATERIALIZED VIEW app.summary OWNER TO \(owner)_other")
  }

  private func expectVerified(_ scene: Scene, hasView: Bool = true) async throws {
    let verify = try await scene.replicate.run("verify", "--json")
    #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
    let report = try JSONDecoder().decode(VerificationReport.self, from: Data(verify.output.utf8))
    let verdicts = report.tables.map { "\($0.name.name) \($0.verdict.rawValue)" }
    let view = hasView ? ["summary not_compared"] : []
    #expect(verdicts == ["item equal", "part equal"] + view)
    guard hasView else { return }
    #expect(report.tables.last?.reason?.contains("SELECT") == true, "\(verify.output)")
  }

  private func expectEqualEnds(_ scene: Scene) async throws {
    let differences = try await DatabaseComparison().differences(
      source: scene.databases.source, target: scene.databases.target)
    #expect(differences == [])
    #expect(try await scene.largeObjects(.source) == scene.largeObjects(.target))
  }

  @Test("A role that database or login take on by themselves locks nobody out, before the cutover or after")
  func storedRole() async throws {
    try await withPlainRoles("plainrole") { scene, role, owner in
      let database = quotedIdentifier(scene.databases.name)
      for end in [Scene.End.source, .target] {
        try await scene.run(["ALTER ROLE \(role) SET role = '\(owner)_other'"], on: end)
      }
      try await scene.source("ALTER DATABASE \(database) SET role = '\(owner)'")
      // Only its owner may give the target's database what the source's has.
      try await scene.target("ALTER DATABASE \(database) OWNER TO \(role)")
      let check = try await scene.replicate.run("check", "--allow-unencrypted-target")
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      let engine = try await scene.start("--allow-unencrypted-target", reverse: Self.canReplicateBack())
      try await scene.waitUntilReady(engine)
      let stored =
        "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = "
        + "(SELECT oid FROM pg_database WHERE datname = current_database())"
      #expect(try await scene.targetValue(stored) == "{role=\(owner)}")
      // With that in place all sessions of ours begin anew.
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      let next = try await scene.start("--allow-unencrypted-target", reverse: Self.canReplicateBack())
      try await scene.source("INSERT INTO app.item (body) VALUES ('streamed')")
      try await scene.waitUntilReady(next)
      let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(next.errors)")
      if try await Self.canReplicateBack() {
        try await scene.waitUntil("reverse replication", next) { $0.phase == .reverse && $0.ready }
      }
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
    }
  }

  @Test("A role that may have no more sessions on the target waits until it may, with its place kept")
  func connectionLimit() async throws {
    try await withPlainRoles("plainlimit") { scene, role, _ in
      let engine = try await scene.start("--allow-unencrypted-target", reverse: Self.canReplicateBack())
      try await scene.waitUntilReady(engine)
      try await scene.target("ALTER ROLE \(role) CONNECTION LIMIT 2")
      try await scene.source("INSERT INTO app.item (body) VALUES ('late')")
      try await engine.waitUntil("the row on the target", within: .seconds(30)) {
        try await scene.targetValue("SELECT count(*) FROM app.item") == "101"
      }
      // As a failover does it.
      let ended = try await scene.targetValue(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '\(role)'")
      #expect(ended != "0")
      try await engine.waitForOutput("SQLSTATE 53300", within: .seconds(30))
      #expect(engine.isRunning)
      try await scene.target("ALTER ROLE \(role) CONNECTION LIMIT -1")
      try await scene.source("INSERT INTO app.item (body) VALUES ('later')")
      try await scene.waitUntilReady(engine)
      try await expectVerified(scene, hasView: false)
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      let abort = try await scene.replicate.run("abort", "--yes")
      #expect(abort.exitCode == 0, "\(abort.errors)")
    }
  }

  @Test("Row-level security that binds owners is named for either end, and what is advised suffices")
  func forcedRowSecurity() async throws {
    try await withPlainRoles("plainforce") { scene, role, owner in
      let force = [
        "ALTER TABLE app.item ENABLE ROW LEVEL SECURITY", "ALTER TABLE app.item FORCE ROW LEVEL SECURITY",
      ]
      try await scene.run(force, on: .source)
      func check() async throws -> Finished {
        try await scene.replicate.run("check", "--allow-unencrypted-target")
      }
      let refused = try await check()
      let advice = "ALTER ROLE \"\(role)\" BYPASSRLS"
      #expect(refused.exitCode == 3)
      #expect(refused.output.components(separatedBy: advice).count == 3, "\(refused.output)")
      let instead = "ALTER TABLE \"app\".\"item\" NO FORCE ROW LEVEL SECURITY"
      #expect(refused.output.contains(instead), "\(refused.output)")
      try await scene.source(instead)
      let passed = try await check()
      #expect(passed.exitCode == 0, "\(passed.output)")
      try await scene.run([force[1], advice], on: .source)
      #expect(try await check().exitCode == 3, "the target's role is bound still")
      try await scene.target(advice)
      let engine = try await scene.start("--allow-unencrypted-target", reverse: Self.canReplicateBack())
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "UPDATE app.item SET body = 'changed' WHERE id = 1", "DELETE FROM app.part WHERE item = 2",
        "INSERT INTO app.item (body) VALUES ('new')")
      try await expectVerified(scene, hasView: false)
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      let abort = try await scene.replicate.run("abort", "--yes")
      #expect(abort.exitCode == 0, "\(abort.errors)")
    }
  }

  private typealias Grant = (end: Clusters.ConnectionString, revoke: String, grant: String, check: String)

  private static func grants(
    _ source: Clusters.ConnectionString, _ target: Clusters.ConnectionString, _ database: String,
    _ role: String, _ owner: String
  ) -> [Grant] {
    [
      (source, "ALTER ROLE \(role) NOREPLICATION", "ALTER ROLE \"\(role)\" REPLICATION;", "source_priv"),
      (
        source, "REVOKE pg_read_all_stats FROM \(role)", "GRANT pg_read_all_stats TO \"\(role)\";",
        "source_priv"
      ),
      (
        source, "REVOKE CREATE ON \(database) FROM \(role)",
        "GRANT CREATE ON \(database) TO \"\(role)\";", "source_priv"
      ),
      (
        source, "REVOKE \(owner) FROM \(role)", "GRANT \"\(owner)\" TO \"\(role)\";", "source_owner"
      ),
      (
        source, "REVOKE SET ON PARAMETER session_replication_role FROM \(role)",
        "GRANT SET ON PARAMETER session_replication_role TO \"\(role)\";", "way_back"
      ),
      (
        source, "REVOKE SELECT ON app.summary FROM \(role)",
        "GRANT SELECT ON TABLE \"app\".\"summary\" TO \"\(role)\";", "source_priv"
      ),
      (
        source, "REVOKE SELECT ON LARGE OBJECT 4711 FROM \(role)",
        "GRANT \"\(owner)_other\" TO \"\(role)\";", "large_objects"
      ),
      (
        target, "REVOKE CREATE ON \(database) FROM \(role)",
        "GRANT CREATE ON \(database) TO \"\(role)\";", "target_priv"
      ),
      (
        target, "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_export_snapshot() FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_export_snapshot() TO \(role);", "system_priv"
      ),
      (
        source, "REVOKE SELECT ON pg_catalog.pg_locks FROM PUBLIC",
        "GRANT SELECT ON pg_catalog.pg_locks TO \(role);", "system_priv"
      ),
      (target, "REVOKE \(owner) FROM \(role), \(owner)_other", "GRANT \"\(owner)\" TO \"\(role)\";", ""),
      (
        target, "REVOKE SET ON PARAMETER session_replication_role FROM \(role)",
        "GRANT SET ON PARAMETER session_replication_role TO \"\(role)\";", "target_priv"
      ),
      (target, "ALTER ROLE \(role) NOREPLICATION", "ALTER ROLE \"\(role)\" REPLICATION;", "way_back"),
    ]
  }

  @Test(
    "Of each privilege that is taken away, check names the statement that gives it back",
    .source(atLeast: 15))
  func missingGrants() async throws {
    try await withPlainRoles("plaingrants") { scene, role, owner in
      let (source, target) = (scene.databases.source, scene.databases.target)
      let database = "DATABASE \"\(scene.databases.name)\""
      let login = ["user": role, "password": Self.password]
      try await makeForeignView(scene, owner)
      try await scene.source(
        "GRANT SELECT ON app.summary TO \(role)", "SET ROLE \(owner)_other",
        "SELECT lo_from_bytea(4711, 'read')", "GRANT SELECT ON LARGE OBJECT 4711 TO \(role)")
      let grants = Self.grants(source, target, database, role, owner)
      let first = try await Preflight.check(source: source.with(login), target: target.with(login))
      #expect(
        first.findings.contains {
          $0.severity == .note && $0.object.contains("summary") && $0.why.contains("rollback")
        }, "\(first.findings)")
      for (end, revoke, grant, check) in grants {
        try await SQLSession.run([revoke], on: end)
        let findings = try await Preflight.check(
          source: source.with(login), target: target.with(login)
        ).findings.filter { $0.severity > .note }
        #expect(
          findings.contains { $0.check.hasPrefix(check) && $0.remedy.contains(grant) },
          "\(revoke): \(findings)")
        try await SQLSession.run([grant, "GRANT \(owner) TO \(owner)_other"], on: end)
      }
      let rest = try await Preflight.check(source: source.with(login), target: target.with(login))
      #expect(rest.findings.filter { $0.severity > .note }.map(\.check) == Self.unavoidable)
      #expect(rest.findings("second_belt").count == 1, "the database has another owner")
    }
  }

  /// The source's database has privileges of its own, and the target's another owner; only a superuser sees
  /// which large objects were written.
  private static let unavoidable = ["database_properties", "large_objects"]
  private static let password = "pl4in"

  @Test("Roles that are no superusers take a migration back without a trace")
  func abort() async throws {
    try await withPlainRoles("plainabort") { scene, role, _ in
      let before = try await scene.tracesOnSource()
      let engine = try await scene.start("--allow-unencrypted-target")
      try await scene.waitUntilReady(engine)
      let abort = try await scene.replicate.run("abort", "--yes", "--drop-target-data")
      #expect(abort.exitCode == 0, "\(abort.output)\(abort.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 1)
      #expect(try await scene.tracesOnSource() == before)
      #expect(try await scene.tracesOnTarget() == [])
    }
  }

  @Test(
    "An owner that may not create on the target is found before anything is changed, and then all goes well"
  )
  func strangers() async throws {
    try await withPlainRoles("plainowner") { scene, role, owner in
      try await scene.source(
        "CREATE TABLE public.loose (id int PRIMARY KEY)", "ALTER TABLE public.loose OWNER TO \(owner)",
        "CREATE TABLE app.mine (id int PRIMARY KEY)", "ALTER TABLE app.mine OWNER TO \(role)",
        "CREATE EXTENSION citext SCHEMA public")
      try await scene.target("GRANT CREATE ON SCHEMA public TO \(role)")
      try await absentStranger(scene, named: "\(role)_absent")
      let blocked = try await scene.replicate.run("check", "--allow-unencrypted-target")
      #expect(blocked.exitCode == 3)
      let grant = "GRANT CREATE ON SCHEMA public TO \"\(owner)\";"
      #expect(blocked.output.contains(grant), "\(blocked.output)")
      #expect(
        blocked.output.contains("1 blocker"), "members of the schema's owner are none: \(blocked.output)")
      try await scene.target(grant)
      let engine = try await scene.start("--allow-unencrypted-target", reverse: Self.canReplicateBack())
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      let differences = try await DatabaseComparison().differences(
        source: scene.databases.source, target: scene.databases.target)
      #expect(differences == [])
    }
  }

  @Test("A table of others that stays behind keeps nothing from being cut over, and is theirs to write")
  func leftBehind() async throws {
    try await withPlainRoles("plainleft") { scene, role, owner in
      try await scene.source(
        "CREATE TABLE app.others (id int PRIMARY KEY)", "ALTER TABLE app.others OWNER TO \(owner)_other",
        "GRANT SELECT ON app.others TO \(role)")
      let engine = try await scene.start("--allow-unencrypted-target", "--exclude-table", "app.others")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let writable = ["default_transaction_read_only": "off"]
      for (table, refusal) in [("others", nil), ("item", "25006")] as [(String, String?)] {
        let met = try await scene.refusal(
          of: "DELETE FROM app.\(table)", on: scene.databases.source, settings: writable)
        #expect(met == refusal, "\(table)")
      }
    }
  }

  @Test("A function that is taken from everybody keeps a cutover from beginning, and leaves nothing closed")
  func revokedFunction() async throws {
    try await withPlainRoles("plainrevoked") { scene, _, _ in
      let engine = try await scene.start("--allow-unencrypted-target", reverse: Self.canReplicateBack())
      try await scene.waitUntilReady(engine)
      let revocations = [
        "EXECUTE ON FUNCTION pg_catalog.pg_export_snapshot()",
        "EXECUTE ON FUNCTION pg_catalog.setval(regclass, bigint, boolean)",
      ]
      for revoked in revocations {
        try await scene.target("REVOKE \(revoked) FROM PUBLIC")
        let refused = try await scene.replicate.run("cutover", "--yes")
        #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
        let write = "INSERT INTO app.item (body) VALUES ('open')"
        #expect(try await scene.refusal(of: write, on: scene.databases.source) == nil)
        let remedy = refused.errors.firstMatch(of: /GRANT EXECUTE [^;]*;/)
        try await scene.target(String(try #require(remedy, "\(refused.errors)").output))
      }
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
    }
  }

  @Test("Sessions that our role may not end are named with the grant, and keep no other from being ended")
  func blockers() async throws {
    try await withPlainRoles("plainblock") { scene, role, _ in
      let engine = try await scene.start("--allow-unencrypted-target")
      try await scene.waitUntilReady(engine)
      // Leaves the fence on every table, so that writers hold up the fence and not the arming.
      let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
      #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)")
      try await scene.waitUntilReady(engine)
      let ours = ["user": role, "password": Self.password]
      var sessions: [SQLSession] = []
      // Whichever is met first: the one of the superuser must not be in the way.
      for settings in [[:], ours, [:]] {
        let session = try await SQLSession(scene.databases.source.with(settings))
        try await session.execute("BEGIN")
        try await session.execute("INSERT INTO app.item (body) VALUES ('held')")
        sessions.append(session)
      }
      let cutover = try await scene.replicate.run(
        "cutover", "--yes", "--max-pause", "3s", "--timeout", "4s", "--terminate-blockers")
      #expect(cutover.exitCode == 5, "\(cutover.output)\(cutover.errors)")
      for part in ["may not end pid", "GRANT pg_signal_backend TO \(role);", "still open"] {
        #expect(cutover.errors.contains(part), "\(part) in: \(cutover.errors)")
      }
      await #expect(throws: SQLFailure.self) { try await sessions[1].execute("SELECT 1") }
      try await sessions[0].execute("COMMIT")
      let terminated = try await scene.report().cutovers.last?.outcome?.terminated
      #expect(terminated?.count == 1, "named although the cutover ran out of time: \(terminated ?? [])")
      #expect(terminated?.first?.contains("user \(role)") == true)
      for session in sessions { await session.close() }
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
    }
  }

  /// One whose role `--create-roles` would make, but without the grant.
  private func absentStranger(_ scene: Scene, named absent: String) async throws {
    try await scene.source(
      "CREATE ROLE \(absent)", "CREATE TABLE public.distant (id int PRIMARY KEY)",
      "ALTER TABLE public.distant OWNER TO \(absent)")
    let check = try await scene.replicate.run("check", "--create-roles", "--allow-unencrypted-target")
    #expect(
      check.output.contains("CREATE ROLE \"\(absent)\"; GRANT CREATE ON SCHEMA public TO \"\(absent)\";"),
      "\(check.output)")
    try await scene.source("DROP TABLE public.distant", "DROP ROLE \(absent)")
  }

  private static let ownerOfItem = "SELECT relowner::regrole FROM pg_class WHERE oid = 'app.item'::regclass"

  /// The program reaches both ends by a role that has what `replicate check` asks for, and no more.
  private func withPlainRoles(
    _ name: String, _ body: @Sendable (Scene, _ role: String, _ owner: String) async throws -> Void
  ) async throws {
    let pair = try await ClusterPair.shared
    let role = "\(name)_\(getpid())"
    let owner = "\(role)_owner"
    let password = Self.password
    for server in [pair.source, pair.target] {
      try await SQLSession.run(
        [
          "CREATE ROLE \(owner)", "CREATE ROLE \(role) LOGIN PASSWORD '\(password)' IN ROLE \(owner)",
          "CREATE ROLE \(owner)_other IN ROLE \(owner)",
        ], on: server)
    }
    try await SQLSession.run(["GRANT \(owner)_other TO \(role)"], on: pair.target)
    try await SQLSession.run(
      ["GRANT pg_read_all_stats TO \(role)"], on: pair.source)
    for server in [pair.source, pair.target] {
      try await SQLSession.run(
        [
          "ALTER ROLE \(role) REPLICATION",
          "GRANT SET ON PARAMETER session_replication_role TO \(role) /*15+*/",
        ], on: server)
    }
    try await pair.withFreshDatabases(named: name) { databases in
      let login = ["user": role, "password": password]
      let scene = Scene(
        databases: databases,
        replicate: ReplicateProcess(
          source: databases.source.with(login), target: databases.target.with(login)))
      try await scene.source(
        "GRANT CREATE ON DATABASE \(databases.name) TO \(role)",
        "CREATE SCHEMA app AUTHORIZATION \(owner)",
        "CREATE TABLE app.item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)",
        "CREATE TABLE app.part (id serial PRIMARY KEY, item bigint REFERENCES app.item)",
        "ALTER TABLE app.item OWNER TO \(owner)", "ALTER TABLE app.part OWNER TO \(owner)",
        "INSERT INTO app.item (body) SELECT 'item ' || n FROM generate_series(1, 100) n",
        "INSERT INTO app.part (item) SELECT id FROM app.item")
      try await scene.target("GRANT CREATE ON DATABASE \(databases.name) TO \(role)")
      let check = try await scene.replicate.run("check", "--allow-unencrypted-target")
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      try await body(scene, role, owner)
    }
    for server in [pair.source, pair.target] {
      try await SQLSession.run(
        ["DROP OWNED BY \(role)", "DROP ROLE \(role)", "DROP ROLE \(owner)_other", "DROP ROLE \(owner)"],
        on: server)
    }
  }
}
