import Clusters
import Foundation
import LibPQ
import Testing

@testable import MigrationEngine

/// Connection strings are libpq's own, down to the client programs, and nothing shows a password.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct ConnectionTests {
  @Test("Ends given by service file and password file are enough for a whole migration")
  func serviceAndPassfile() async throws {
    try await Scene.run("service") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let environment = try await Self.named(scene.databases)
      let replicate = ReplicateProcess(
        source: Clusters.ConnectionString("service=old"), target: Clusters.ConnectionString("service=new"),
        environment: environment)
      let byName = Scene(databases: scene.databases, replicate: replicate)
      let engine = try await byName.start()
      try await byName.waitUntilReady(engine)
      let cutover = try await replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await scene.targetValue("SELECT count(*) FROM t") == "1")
    }
  }

  @Test(
    "A client key with a passphrase opens every session, of the client programs too; a wrong one is reported")
  func keyWithPassphrase() async throws {
    try await Scene.run("passphrase") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let key = try await Self.key(passphrase: "pass 'word' \\ 1")
      func replicate(_ passphrase: String?) -> ReplicateProcess {
        var target = ["sslcert": "\(key).crt", "sslkey": key]
        target["sslpassword"] = passphrase
        return ReplicateProcess(
          source: scene.databases.source, target: scene.databases.target.with(target))
      }
      for wrong in ["another", nil] {
        let run = try await replicate(wrong).run("check", "--allow-unencrypted-target")
        #expect(run.exitCode == 1, "\(run.output)\(run.errors)")
        #expect(run.errors.contains(key) && run.errors.contains("sslpassword"), "\(run.errors)")
      }
      let right = Scene(databases: scene.databases, replicate: replicate("pass 'word' \\ 1"))
      let engine = try await right.start("--log-level", "trace")
      try await right.waitUntilReady(engine)
      try await right.expectEqualEnds(engine)
      #expect(!engine.errors.contains("pass 'word'"))
    }
  }

  /// A certificate of its own is beside it; the servers ask for none, but libpq reads the key all the same.
  private static func key(passphrase: String) async throws -> String {
    let path = try await freshDirectory() + "/client.key"
    try await Command.check([
      "openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "3", "-subj", "/CN=client", "-keyout",
      path,
      "-out", "\(path).crt", "-passout", "pass:\(passphrase)",
    ])
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
    return path
  }

  @Test("Words of a connection string or PGOPTIONS that the server does not know are named as they stand")
  func unknownOptions() async throws {
    try await Scene.run("unknownoptions") { scene in
      for (options, word) in [("-c nonsense_here=1", "nonsense_here"), ("--bogus_flag", "bogus_flag")] {
        let given = ReplicateProcess(
          source: scene.databases.source.with(["options": options]), target: scene.databases.target)
        for process in [given, scene.replicate.with(["PGOPTIONS": options])] {
          let run = try await process.run("check", "--allow-unencrypted-target")
          #expect(run.exitCode == 1, "\(run.output)")
          #expect(run.errors.contains(word), "\(run.errors)")
        }
      }
    }
  }

  @Test("No password is shown: not in the output, not in the process list, not in the state")
  func passwords() async throws {
    try await Scene.run("secret") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t SELECT generate_series(1, 300000)")
      let secrets = try [scene.databases.source, scene.databases.target].compactMap {
        try LibPQ.ConnectionString($0.text, for: "end").password
      }
      try #require(secrets.count == 2)
      let engine = try await scene.start("--log-level", "trace")
      var seen = ""
      while !engine.errors.contains("phase streaming"), engine.isRunning {
        seen += try await Command.check(["ps", "-eo", "args"])
      }
      try await scene.waitUntilReady(engine)
      let state = try await scene.targetValue(
        """
        SELECT string_agg(x::text, '') FROM (
          SELECT m::text FROM replicate.migration m UNION ALL SELECT e::text FROM replicate.engine e
          UNION ALL SELECT v::text FROM replicate.event v) x
        """)
      let everything = [seen, engine.output, engine.errors, state ?? ""]
      for secret in secrets {
        #expect(everything.allSatisfy { !$0.contains(secret) })
      }
      #expect(seen.contains("pg_dump") || seen.contains("pg_restore"), "the client programs were looked at")
    }
  }

  @Test("Status answers from the target alone when the source cannot be reached, and says so")
  func statusWithoutSource() async throws {
    try await Scene.run("sourceless") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
      let away = ReplicateProcess(
        source: scene.databases.source.with(["port": "1"]), target: scene.databases.target)
      let status = try await away.run("status")
      #expect(status.exitCode == 0)
      #expect(status.output.contains("streaming"))
      #expect(status.errors.contains("the source could not be asked for its slot"), "\(status.errors)")
    }
  }

  /// Both ends under names: a service file, and a password file that only its owner may read.
  private static func named(_ databases: FreshDatabases) async throws -> [String: String] {
    let directory = try await freshDirectory()
    var services = ""
    var passwords = ""
    for (name, end) in [("old", databases.source), ("new", databases.target)] {
      services += "[\(name)]\n"
      let keywords = try LibPQ.ConnectionString(end.text, for: name).keywords
      for (keyword, value) in keywords where keyword != "password" { services += "\(keyword)=\(value)\n" }
      let values = Dictionary(keywords.map { ($0.name, $0.value) }) { _, last in last }
      let fields = ["host", "port", "dbname", "user", "password"].map { values[$0] ?? "*" }
      passwords += fields.joined(separator: ":") + "\n"
    }
    try Data(services.utf8).write(to: URL(filePath: "\(directory)/services"))
    try Data(passwords.utf8).write(to: URL(filePath: "\(directory)/passwords"))
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o600], ofItemAtPath: "\(directory)/passwords")
    return ["PGSERVICEFILE": "\(directory)/services", "PGPASSFILE": "\(directory)/passwords"]
  }
}
