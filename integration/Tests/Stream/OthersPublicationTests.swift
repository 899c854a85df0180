import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Others' publications and subscribers go on as if we were not there.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)), .ownServers)
struct OthersPublicationTests {
  @Test(
    "A subscriber of all tables of the source sees nothing of a migration, a cutover and reverse replication")
  func allTables() async throws {
    let pair = try await ClusterPair.shared
    try await pair.withFreshDatabases(named: "subscriber") { others in
      try await Scene.run("allpublished") { scene in
        let tables = ["CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE TABLE nokey (v int)"]
        for sql in tables + ["ALTER TABLE nokey REPLICA IDENTITY FULL"] { try await scene.source(sql) }
        try await scene.source(
          "CREATE TABLE late (v int)", "CREATE PUBLICATION everything FOR ALL TABLES",
          "SELECT pg_create_logical_replication_slot('\(others.name)', 'pgoutput')")
        let subscriber = try await SQLSession(others.target)
        for sql in tables + ["CREATE TABLE late (v int)"] { try await subscriber.execute(sql) }
        try await subscriber.execute(
          """
          CREATE SUBSCRIPTION feed CONNECTION \(quotedLiteral(scene.databases.source.text))
            PUBLICATION everything WITH (create_slot = false, slot_name = '\(others.name)')
          """)
        func expectFollowed(_ what: String) async throws {
          let there = try await scene.sourceValue("SELECT sum(v) FROM t")
          try await waitUntil("a subscriber that follows: \(what)", within: .seconds(20)) {
            try await subscriber.value("SELECT sum(v) FROM t") == there
          }
        }
        let engine = try await scene.start("--replica-identity", "full", reverse: true)
        try await scene.waitUntilReady(engine)
        try await scene.source("INSERT INTO t VALUES (1, 1)", "INSERT INTO late VALUES (1)")
        try await expectFollowed("streaming")
        let rehearsal = try await scene.replicate.run("cutover", "--dry-run", "--yes")
        #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)")
        try await subscriber.execute("ALTER SUBSCRIPTION feed REFRESH PUBLICATION")
        let cutover = try await scene.replicate.run("cutover", "--yes")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        try await scene.waitUntil("the reverse stream", engine) { $0.phase == .reverse && $0.ready }
        try await scene.target("INSERT INTO t VALUES (2, 2)")
        try await waitUntil("the row on the source", within: .seconds(20)) {
          try await scene.sourceValue("SELECT count(*) FROM t") == "2"
        }
        try await expectFollowed("reverse replication")
        try await subscriber.execute("ALTER SUBSCRIPTION feed REFRESH PUBLICATION")
        let rollback = try await scene.replicate.run("rollback", "--yes")
        #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        try await scene.source("INSERT INTO t VALUES (3, 3)")
        try await expectFollowed("the rollback")
        if try await ClusterPair.targetMajor() >= 15 {
          let failures = "SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats"
          #expect(try await subscriber.value(failures) == "0")
        }
        try await subscriber.execute("DROP SUBSCRIPTION feed")
        await subscriber.close()
      }
    }
  }

  @Test("A subscriber of all tables of the target is served once our state has gone, as check says")
  func target() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "follower") { others in
      try await Scene.run("allofthetarget") { scene in
        try await scene.source(
          "CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE PUBLICATION everything FOR ALL TABLES",
          "INSERT INTO t VALUES (1, 1)")
        let check = try await scene.replicate.run("check")
        let remedy = try #require(check.output.firstMatch(of: /DROP SCHEMA\s+replicate\s+CASCADE/)?.output)
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        let cutover = try await scene.replicate.run("cutover", "--yes")
        #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
        #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
        let finish = try await scene.replicate.run("finish", "--yes")
        #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
        try await scene.target(String(remedy))
        // On the other server, which may make a slot there.
        let follower = try await SQLSession(others.source)
        // The server may not look for a certificate where we have ours.
        let target = scene.databases.target.with(["sslcert": "/nonexistent"])
        try await follower.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await follower.execute(
          """
          CREATE SUBSCRIPTION feed CONNECTION \(quotedLiteral(target.text))
            PUBLICATION everything
          """)
        try await scene.target("INSERT INTO t VALUES (2, 2)")
        try await waitUntil("a subscriber that follows the target", within: .seconds(30)) {
          try await follower.value("SELECT sum(v) FROM t") == "3"
        }
        try await follower.execute("DROP SUBSCRIPTION feed")
        await follower.close()
      }
    }
  }
}
