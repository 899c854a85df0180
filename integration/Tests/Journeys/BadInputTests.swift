import Clusters
import Foundation
import Testing

/// What users get wrong before anything has begun: the program says what it is, and leaves both ends alone.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(5)))
struct BadInputTests {
  struct Mistake: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Keywords that replace those of the right connection string.
    var source: [String: String] = [:]
    var target: [String: String] = [:]
    var isOneDatabase = false
    var sourceSetup: [String] = []
    var targetSetup: [String] = []
    var options: [String] = []
    var exitCode: Int32
    var words: [String]

    init(
      _ description: String, exitCode: Int32, words: String..., configure: (inout Mistake) -> Void
    ) {
      testDescription = description
      self.exitCode = exitCode
      self.words = words
      configure(&self)
    }
  }

  private static let password = "n0t-the-password"

  static let mistakes = [
    Mistake("a source that does not answer", exitCode: 1, words: "source", "port 1 ", "refused") {
      $0.source = ["host": "127.0.0.1", "port": "1"]
    },
    Mistake("a target that does not answer", exitCode: 1, words: "target", "port 1 ", "refused") {
      $0.target = ["host": "127.0.0.1", "port": "1"]
    },
    Mistake("a wrong password of the source", exitCode: 1, words: "source", "password authentication") {
      $0.source = ["password": password]
    },
    Mistake("a wrong password of the target", exitCode: 1, words: "target", "password authentication") {
      $0.target = ["password": password]
    },
    Mistake("a source database that is not there", exitCode: 1, words: "source", "\"nowhere\" does not") {
      $0.source = ["dbname": "nowhere"]
    },
    Mistake("a target database that is not there", exitCode: 1, words: "target", "\"nowhere\" does not") {
      $0.target = ["dbname": "nowhere"]
    },
    Mistake(
      "a keyword that libpq does not know", exitCode: 64, words: "REPLICATE_SOURCE", "cannot be parsed"
    ) {
      $0.source = ["hots": "db.example"]
    },
    Mistake("a target certificate of an unknown authority", exitCode: 1, words: "target", "root.crt") {
      $0.target = ["sslmode": "verify-full", "sslrootcert": "/nonexistent/root.crt"]
    },
    Mistake("one database as both ends", exitCode: 3, words: "same_database", "REPLICATE_TARGET") {
      $0.isOneDatabase = true
    },
    Mistake(
      "a table without replica identity", exitCode: 3, words: #""public"."bare""#,
      "REPLICA IDENTITY FULL", "--replica-identity full"
    ) {
      $0.sourceSetup = ["CREATE TABLE bare (a int)", "INSERT INTO bare VALUES (1)"]
    },
    Mistake("a target that is not empty", exitCode: 3, words: "public.leftover", "CREATE DATABASE") {
      $0.targetSetup = ["CREATE TABLE leftover (a int)", "INSERT INTO leftover VALUES (1)"]
    },
    Mistake("a table to leave behind that is not there", exitCode: 3, words: "--exclude-table", "gone") {
      $0.options = ["--exclude-table", "public.gone"]
    },
  ]

  @Test("A mistake is named, and nothing is touched", arguments: mistakes)
  func mistake(_ mistake: Mistake) async throws {
    let pair = try await ClusterPair.shared
    try await pair.withFreshDatabases(named: "mistake") { databases in
      let (source, target) = (databases.source, mistake.isOneDatabase ? databases.source : databases.target)
      try await SQLSession.run(mistake.sourceSetup, on: source)
      try await SQLSession.run(mistake.targetSetup, on: target)
      let refusal = Refusal(
        databases: (source, target),
        replicate: ReplicateProcess(
          source: source.with(mistake.source), target: target.with(mistake.target)),
        secrets: [Self.password])
      let options = pair.encryptionArguments + mistake.options
      try await refusal.expect(
        [["check"] + options, ["start"] + options], exitCode: mistake.exitCode, words: mistake.words)
    }
  }

  @Test("A source without logical WAL and without a free slot is named with both", .ownServers)
  func sourceServer() async throws {
    let cluster = try await Cluster(
      named: "unready", .init(settings: ["wal_level": "replica", "max_replication_slots": "1"]))
    try await cluster.start()
    try await SQLSession.run(
      ["SELECT pg_create_physical_replication_slot('somebody')"], on: cluster.superuser)
    let pair = try await ClusterPair.shared
    try await pair.withFreshDatabases(named: "unready") { databases in
      let refusal = Refusal(
        databases: (cluster.superuser, databases.target),
        replicate: ReplicateProcess(source: cluster.superuser, target: databases.target))
      try await refusal.expect(
        [["check"] + pair.encryptionArguments, ["start"] + pair.encryptionArguments], exitCode: 3,
        words: [
          "wal_level is replica", "ALTER SYSTEM SET wal_level = logical;", "rds.logical_replication",
          "1 of 1 replication slots are in use", "ALTER SYSTEM SET max_replication_slots",
        ])
    }
    try await cluster.destroy()
  }

  @Test("Roles that may do nothing are shown the grants of both ends")
  func privileges() async throws {
    let pair = try await ClusterPair.shared
    let role = "inputs_guest_\(getpid())"
    for server in [pair.source, pair.target] {
      try await SQLSession.run(["CREATE ROLE \(role) LOGIN PASSWORD 'gu3st'"], on: server)
    }
    try await pair.withFreshDatabases(named: "guest") { databases in
      try await SQLSession.run(["CREATE TABLE t (id int PRIMARY KEY)"], on: databases.source)
      let login = ["user": role, "password": "gu3st"]
      let refusal = Refusal(
        databases: (databases.source, databases.target),
        replicate: ReplicateProcess(
          source: databases.source.with(login), target: databases.target.with(login)),
        secrets: ["gu3st"])
      // The role does not see where the server keeps its data, so the storage is another blocker.
      try await refusal.expect(
        [["check"], ["start"]], exitCode: 3,
        words: [
          "ALTER ROLE \"\(role)\" REPLICATION;", "GRANT SELECT ON TABLE \"public\".\"t\" TO \"\(role)\";",
          "source database \"\(databases.name)\"", "target database \"\(databases.name)\"",
          "GRANT CREATE ON DATABASE \"\(databases.name)\" TO \"\(role)\";", "session_replication_role",
        ])
    }
    for server in [pair.source, pair.target] {
      try await SQLSession.run(["DROP ROLE \(role)"], on: server)
    }
  }

  @Test("Where there is no migration, commands that need one say so")
  func noMigration() async throws {
    try await Scene.run("none") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let ends = (source: scene.databases.source, target: scene.databases.target)
      let refusal = Refusal(databases: ends, replicate: scene.replicate)
      try await refusal.expect(
        [["status"], ["status", "--json"], ["cutover", "--yes"]], exitCode: 1,
        words: ["looking for a migration", "replicate start"])
      try await refusal.expect([["cutover"], ["abort"]], exitCode: 64, words: ["--yes"])
    }
  }
}
