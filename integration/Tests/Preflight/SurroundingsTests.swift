import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What stands around the tables: schema public, extensions, roles, publications, names, limits.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(4)))
struct SurroundingsTests {
  @Test("Owner, comment and privileges of schema public arrive, with those of the database")
  func publicSchema() async throws {
    try await SharedRole.with("ofpublic") { role in
      try await Scene.run("publicschema") { scene in
        let database = quotedIdentifier(scene.databases.name)
        let sql = [
          "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)",
          "CREATE SCHEMA \"public too\"", "COMMENT ON SCHEMA public IS 'ours'",
          "REVOKE ALL ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO \(role)",
          "ALTER SCHEMA public OWNER TO \(role)", "COMMENT ON DATABASE \(database) IS 'theirs'",
          "GRANT TEMPORARY ON DATABASE \(database) TO \(role)",
          "ALTER DATABASE \(database) SET work_mem = '7MB'",
        ]
        for statement in sql { try await scene.source(statement) }
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        let state = """
          SELECT nspowner::regrole || ' ' || nspacl::text || ' ' || obj_description(n.oid, 'pg_namespace')
            || ' ' || shobj_description(d.oid, 'pg_database')
            || ' ' || has_database_privilege('\(role)', d.oid, 'TEMPORARY')
          FROM pg_namespace n, pg_database d WHERE nspname = 'public' AND datname = current_database()
          """
        let expected = try #require(try await scene.sourceValue(state))
        #expect(expected.contains("ours theirs") && expected.contains(role), "\(expected)")
        #expect(try await scene.targetValue(state) == expected)
        let cutover = try await scene.replicate.run("cutover", "--yes")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      }
    }
  }

  @Test("An extension that the target has in another schema blocks, and the remedy lets the start pass")
  func extensionSchema() async throws {
    for (source, target) in [("elsewhere", "public"), ("public", "aside")] {
      try await Scene.run("extschema") { scene in
        if source != "public" { try await scene.source("CREATE SCHEMA \(source)") }
        if target != "public" { try await scene.target("CREATE SCHEMA \(target)") }
        try await scene.source(
          "CREATE EXTENSION citext SCHEMA \(source)",
          "CREATE TABLE t (id int PRIMARY KEY, v \(source).citext)", "INSERT INTO t VALUES (1, 'A')")
        try await scene.target("CREATE EXTENSION citext SCHEMA \(target)")
        func findings() async throws -> [Finding] {
          try await Preflight.check(
            source: scene.databases.source, target: scene.databases.target
          ).findings("extension_schema")
        }
        let finding = try #require(try await findings().first)
        #expect(finding.severity == .blocker && finding.why.contains("\"\(source)\""), "\(finding)")
        let remedy = try #require(
          finding.remedy.firstMatch(of: #/: ((ALTER|DROP) EXTENSION [^;]*;)/#)?.output.1)
        try await scene.target(String(remedy))
        #expect(try await findings().isEmpty)
        if target != "public" { try await scene.target("DROP SCHEMA \(target)") }
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        #expect(try await scene.targetValue("SELECT v::text FROM t") == "A")
        try await scene.expectEqualEnds(engine)
      }
    }
  }

  @Test("A role that only a user mapping names blocks, and --create-roles makes it")
  func userMapping() async throws {
    try await SharedRole.with("mapped", target: false) { role in
      try await Scene.run("usermapping") { scene in
        try await scene.source(
          "CREATE TABLE t (id int PRIMARY KEY)", "CREATE FOREIGN DATA WRAPPER away",
          "CREATE SERVER there FOREIGN DATA WRAPPER away",
          "CREATE USER MAPPING FOR \(role) SERVER there OPTIONS (user 'x')")
        let check = try await scene.replicate.run(["check"] + ClusterPair.shared.encryptionArguments)
        #expect(check.exitCode == 3 && check.output.contains(role), "\(check.output)\(check.errors)")
        let engine = try await scene.start("--create-roles")
        try await scene.waitUntilReady(engine)
        let mapping = "SELECT usename FROM pg_user_mappings"
        #expect(try await scene.targetValue(mapping) == role)
        try await scene.expectEqualEnds(engine)
      }
    }
  }

  @Test("A privilege on the database for a role that only the source has keeps nothing else from coming")
  func databaseGrant() async throws {
    try await SharedRole.with("onlyhere", target: false) { missing in
      try await SharedRole.with("bothends") { present in
        try await Scene.run("databasegrant") { scene in
          let database = quotedIdentifier(scene.databases.name)
          try await scene.source(
            "CREATE TABLE t (id int PRIMARY KEY)", "GRANT CREATE ON DATABASE \(database) TO \(missing)",
            "GRANT CREATE ON DATABASE \(database) TO \(present)",
            "ALTER ROLE \(missing) IN DATABASE \(database) SET work_mem = '7MB'")
          let report = try await Preflight.check(
            source: scene.databases.source, target: scene.databases.target)
          let findings = report.findings("role").filter { $0.object.contains(missing) }
          #expect(findings.map(\.severity) == [.warning], "\(report.findings)")
          let engine = try await scene.start()
          try await scene.waitUntilReady(engine)
          #expect(engine.errors.contains("the target has no such role"), "\(engine.errors)")
          let granted = "SELECT has_database_privilege('\(present)', current_database(), 'CREATE')"
          #expect(try await scene.targetValue(granted) == "t")
          let refused = try await scene.replicate.run("cutover", "--yes")
          let name = "privilege CREATE of \(missing) on the database"
          #expect(refused.exitCode == 5 && refused.errors.contains(name), "\(refused.errors)")
          let cutover = try await scene.replicate.run(
            "cutover", "--yes", "--accept-difference", name, "--accept-difference",
            "setting work_mem of role \(missing) in the database of the database", "--accept-difference",
            "setting work_mem of role \(missing) in the database")
          #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
          #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        }
      }
    }
  }

  @Test("Publications of the user's on the target do not refuse what the stream applies to it")
  func publications() async throws {
    try await Scene.run("theirpublication") { scene in
      try await scene.source(
        "CREATE TABLE no_key (v int)", "INSERT INTO no_key VALUES (1), (2)",
        "CREATE PUBLICATION theirs FOR ALL TABLES")
      let engine = try await scene.start("--replica-identity", "full", reverse: true)
      try await scene.waitUntilReady(engine)
      func changes(_ table: String, _ value: Int) async throws {
        try await scene.source(
          "UPDATE \(table) SET v = \(value) WHERE v = 1", "UPDATE \(table) SET v = 1 WHERE v = \(value)",
          "DELETE FROM \(table) WHERE v = 2", "INSERT INTO \(table) VALUES (2), (\(value))")
        try await engine.waitUntil("changes of \(table)", within: .seconds(60)) {
          try await scene.targetValue("SELECT string_agg(v::text, ' ' ORDER BY v) FROM \(table)")
            == scene.sourceValue("SELECT string_agg(v::text, ' ' ORDER BY v) FROM \(table)")
        }
      }
      try await changes("no_key", 10)
      try await scene.source("CREATE TABLE later (v int)", "INSERT INTO later VALUES (1), (2)")
      try await engine.waitUntil("the new table", within: .seconds(60)) {
        try await scene.targetValue("SELECT to_regclass('later') IS NOT NULL") == "t"
      }
      try await scene.waitUntilReady(engine)
      try await changes("later", 11)
      // A rehearsal makes what reverse replication needs, and takes it away.
      let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
      #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)\(engine.errors)")
      try await changes("no_key", 12)
      try await changes("later", 13)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      try await scene.waitUntil("reverse replication", engine) { $0.phase == .reverse && $0.ready }
      let finish = try await scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let identities = """
        SELECT string_agg(relreplident::text, '' ORDER BY relname) FROM pg_class
        WHERE relname IN ('no_key', 'later')
        """
      #expect(try await scene.targetValue(identities) == "dd")
      #expect(try await scene.targetValue("SELECT count(*) FROM pg_publication") == "1")
    }
  }

  @Test("Without reverse replication, the target's tables have their own replica identities when it is open")
  func publicationsWithoutReverse() async throws {
    try await Scene.run("noreversepub") { scene in
      try await scene.source(
        "CREATE TABLE no_key (v int)", "INSERT INTO no_key VALUES (1)",
        "CREATE PUBLICATION theirs FOR ALL TABLES")
      let engine = try await scene.start("--replica-identity", "full")
      try await scene.waitUntilReady(engine)
      try await scene.source("UPDATE no_key SET v = 2")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await scene.targetValue("SELECT v FROM no_key") == "2")
      let identity = "SELECT relreplident FROM pg_class WHERE relname = 'no_key'"
      #expect(try await scene.targetValue(identity) == "d")
    }
  }

  @Test("A schema of the application's that is called replicate is neither taken nor to be dropped")
  func schemaOfOthers() async throws {
    try await Scene.run("theirschema") { scene in
      try await scene.source(
        "CREATE SCHEMA replicate", "CREATE TABLE replicate.t (id int PRIMARY KEY)")
      try await scene.target("CREATE SCHEMA replicate")
      let check = try await scene.replicate.run(["check"] + ClusterPair.shared.encryptionArguments)
      #expect(check.exitCode == 3, "\(check.output)\(check.errors)")
      #expect(!check.output.contains("DROP SCHEMA"), "\(check.output)")
      _ = try await scene.replicate.run("abort", "--yes")
      #expect(try await scene.sourceValue("SELECT count(*) FROM replicate.t") == "0")
      let remedies = check.output.matches(of: #/ALTER SCHEMA replicate RENAME TO …;/#)
      #expect(remedies.count == 2, "\(check.output)")
      try await scene.source("ALTER SCHEMA replicate RENAME TO replication")
      try await scene.target("ALTER SCHEMA replicate RENAME TO aside", "DROP SCHEMA aside")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("Who has locked a table so that nobody can look at it is named, with what ends that")
  func lockedTable() async throws {
    try await Scene.run("lockedtable") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let holder = try await SQLSession(scene.databases.source)
      try await holder.execute("BEGIN")
      try await holder.execute("LOCK TABLE t")
      let began = ContinuousClock.now
      let check = try await scene.replicate.run(["check"] + ClusterPair.shared.encryptionArguments)
      #expect(check.exitCode == 3 && .now - began < .seconds(30), "\(check.output)\(check.errors)")
      #expect(check.output.contains("public.t"), "\(check.output)")
      let remedy = try #require(
        check.output.firstMatch(of: #/SELECT pg_terminate_backend\(\d+\);/#)?.output)
      try await scene.source(String(remedy))
      let again = try await scene.replicate.run(["check"] + ClusterPair.shared.encryptionArguments)
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)")
      await holder.close()
    }
  }

  @Test("A limit of a role or a database that lets too few sessions in blocks, with the limit that does")
  func connectionLimits() async throws {
    try await SharedRole.with("limited") { role in
      try await Scene.run("limited") { scene in
        let database = quotedIdentifier(scene.databases.name)
        try await scene.source(
          "ALTER ROLE \(role) LOGIN PASSWORD 'x' CONNECTION LIMIT 5",
          "ALTER DATABASE \(database) CONNECTION LIMIT 4")
        func findings() async throws -> [Finding] {
          try await Preflight.check(
            source: scene.databases.source.with(["user": role, "password": "x"]),
            target: scene.databases.target
          ).findings("connection_limit")
        }
        let found = try await findings()
        #expect(found.map(\.severity) == [.blocker, .blocker], "\(found)")
        for finding in found {
          let sql = try #require(finding.remedy.firstMatch(of: #/ALTER [^;]*;/#)?.output)
          try await scene.source(String(sql))
        }
        #expect(try await findings().isEmpty)
      }
    }
  }

  @Test("Options of a service and of the environment reach the client programs' sessions")
  func serviceOptions() async throws {
    let directory = try await freshDirectory()
    let file = "\(directory)/services"
    try Data("[theirs]\noptions=-c app.service=1\n".utf8).write(to: URL(filePath: file))
    let real = try #require(ProcessInfo.processInfo.environment["PATH"])
    for tool in ["pg_dump", "pg_restore"] {
      let script =
        "#!/bin/sh\nPATH='\(real)'\necho \"$@\" >>\(directory)/\(tool)-said\nexec \(tool) \"$@\"\n"
      try Data(script.utf8).write(to: URL(filePath: "\(directory)/\(tool)"))
      try FileManager.default.setAttributes(
        [.posixPermissions: 0o755], ofItemAtPath: "\(directory)/\(tool)")
    }
    try await Scene.run("serviceoptions") { fresh in
      let scene = fresh.connecting(
        source: ["service": "theirs"],
        environment: [
          "PATH": "\(directory):\(real)", "PGSERVICEFILE": file, "PGOPTIONS": "-c app.environment=1",
        ])
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      func said(_ tool: String) throws -> String {
        try String(contentsOfFile: "\(directory)/\(tool)-said", encoding: .utf8)
      }
      #expect(try said("pg_dump").contains("app.service=1"))
      #expect(try said("pg_restore").contains("app.environment=1"))
    }
  }

  @Test("A dump that stumbles over what was dropped in its middle is made again; keys get their password")
  func clientPrograms() async throws {
    let directory = try await freshDirectory()
    let real = try #require(ProcessInfo.processInfo.environment["PATH"])
    let script = """
      #!/bin/sh
      PATH='\(real)'
      if [ ! -e \(directory)/failed ] && [ "$1" != --version ]; then
        touch \(directory)/failed
        echo 'pg_dump: error: query failed: ERROR:  cache lookup failed for index 4711' >&2
        exit 1
      fi
      cat "$PGSERVICEFILE" >>\(directory)/service
      echo "$@" >>\(directory)/arguments
      exec pg_dump "$@"
      """
    let file = "\(directory)/pg_dump"
    try Data(script.utf8).write(to: URL(filePath: file))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file)
    try await Scene.run("dumpagain") { fresh in
      let scene = fresh.connecting(
        source: ["sslpassword": "of the key"], environment: ["PATH": "\(directory):\(real)"])
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      #expect(FileManager.default.fileExists(atPath: "\(directory)/failed"))
      let service = try String(contentsOfFile: "\(directory)/service", encoding: .utf8)
      #expect(service.contains("sslpassword=of the key"))
      let arguments = try String(contentsOfFile: "\(directory)/arguments", encoding: .utf8)
      #expect(arguments.contains("--format=custom") && !arguments.contains("of the key"))
      try await scene.expectEqualEnds(engine)
    }
  }
}
