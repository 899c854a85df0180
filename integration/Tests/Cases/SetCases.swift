import Clusters
import Foundation
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// Traps of changes that are applied in sets, and of statements by the thousand.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(5)))
struct SetCases {
  @Test("Case 55: changes to a table that was empty when it was analysed never read the whole of it")
  func plans() async throws {
    let tables = [
      #"""
      CREATE TABLE c55 (id int PRIMARY KEY, v int, kind int NOT NULL) \; CREATE TABLE c55_index (k int
        NOT NULL, l text NOT NULL, v int) \;
      CREATE UNIQUE INDEX c55_index_key ON c55_index (l, k) \; ALTER TABLE c55_index REPLICA IDENTITY
        USING INDEX c55_index_key
      """#
    ]
    try await Running.stream("plans", tables: tables) { running in
      try await running.source([
        "INSERT INTO c55 SELECT i, 0, 1 FROM generate_series(1, 100000) i",
        "INSERT INTO c55_index SELECT i, 'same', 0 FROM generate_series(1, 50000) i",
      ])
      try await running.settle()
      for size in [1, 40, 3000] {
        try await running.source([
          "UPDATE c55 SET v = v + 1 WHERE id <= \(size)",
          "UPDATE c55 SET id = -id WHERE id BETWEEN 10000 AND \(10000 + size)",
          "DELETE FROM c55 WHERE id BETWEEN 20000 AND \(20000 + size)",
          "UPDATE c55_index SET v = 1 WHERE k <= \(size)",
          "DELETE FROM c55_index WHERE k BETWEEN 10000 AND \(10000 + size)",
        ])
        try await running.settle()
      }
      let scene = running.scene
      running.engine.terminate()
      #expect(try await running.engine.waitForEnd(within: .seconds(20)) == 0)
      let statistics = "FROM pg_stat_user_tables WHERE relname ~ '^c55'"
      // Sessions report what they did when they end, if not before.
      let session = try await SQLSession(scene.databases.target)
      try await waitUntil("the statistics") {
        try await session.value("SELECT min(n_tup_upd) > 3000 \(statistics)") == "t"
      }
      let read = try await session.value("SELECT sum(seq_tup_read) \(statistics)")
      #expect(read == "0", "rows read by sequential scans")
      await session.close()
      running.engine = try await scene.start([])
      try await running.expectEqualEnds()
    }
  }

  @Test(
    "Case 56: a change that finds no row or two rows on the target stops the stream, with its key",
    arguments: ["missing", "doubled"])
  func rowCounts(_ fault: String) async throws {
    let tables = [
      "CREATE TABLE t (id int PRIMARY KEY, v int)",
      "INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i",
    ]
    try await Running.stream("rowcount", tables: tables) { running in
      let breaking =
        fault == "missing"
        ? ["DELETE FROM t WHERE id = 57"]
        : [
          "ALTER TABLE t DROP CONSTRAINT t_pkey", "CREATE INDEX ON t (id)", "INSERT INTO t VALUES (57, 0)",
        ]
      try await running.target(["SET session_replication_role = replica"] + breaking)
      try await running.source(["DELETE FROM t"])
      // What comes in binary comes again as text, and the table is looked at before that.
      let isInBinary = try await ClusterPair.sourceMajor() >= 14
      if fault == "missing" || !isInBinary {
        #expect(try await running.engine.waitForEnd(within: .seconds(30)) == 1)
        let errors = running.engine.errors
        #expect(errors.contains("DELETE to table \"public\".\"t\""), "\(errors)")
        #expect(errors.contains("(\"id\") = (57)"), "\(errors)")
        #expect(errors.contains("touched \(fault == "missing" ? 0 : 2) rows"), "\(errors)")
      } else {
        // What let two rows have one key is found on the way.
        try await running.scene.waitUntil("a status that says it", running.engine) {
          $0.stream.waitsFor?.contains("no unique index on its replica identity (\"id\")") == true
        }
      }
      let left = fault == "missing" ? "99" : "101"
      #expect(try await running.scene.targetValue("SELECT count(*) FROM t") == left)
    }
  }

  @Test("Case 47: UPDATEs of thousands of shapes, and large values by the many, do not block")
  func shapes() async throws {
    let columns = (1...11).map { "c\($0)" }
    let values = columns.map { _ in "repeat(md5(i::text), 70)" }.joined(separator: ", ")
    let tables = [
      "CREATE TABLE c47 (id int PRIMARY KEY, \(columns.map { "\($0) text" }.joined(separator: ", ")))",
      "ALTER TABLE c47 \(columns.map { "ALTER \($0) SET STORAGE EXTERNAL" }.joined(separator: ", "))",
      "INSERT INTO c47 SELECT i, \(values) FROM generate_series(1, 2) i",
      "CREATE TABLE c47_large (id int PRIMARY KEY, v int, t text)",
      "ALTER TABLE c47_large ALTER t SET STORAGE EXTERNAL",
    ]
    try await Running.stream("shapes", tables: tables) { running in
      let assignments = columns.enumerated().map { number, name in
        "\(name) = CASE WHEN (n >> \(number)) & 1 = 1 THEN repeat(md5(n || '\(name)'), 70) ELSE \(name) END"
      }.joined(separator: ", ")
      try await running.source([
        """
        DO $$ BEGIN
          FOR n IN 0..2047 LOOP UPDATE c47 SET \(assignments) WHERE id = 1 + n % 2; END LOOP;
        END $$
        """
      ])
      try await running.settle()
      let size = "repeat(md5(i::text), 32768)"
      try await running.source([
        "INSERT INTO c47_large SELECT i, 0, \(size) FROM generate_series(1, 60) i",
        "UPDATE c47_large SET t = t || 'x', v = 1",
        "UPDATE c47_large SET id = -id",
        "UPDATE c47_large SET v = 2",
      ])
      try await running.expectEqualEnds()
    }
  }

  @Test("Case 47: statements that were prepared by the thousand are given back to the server")
  func preparedStatements() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "prepared") { databases in
      let connection = try await connect(databases.source)
      for first in stride(from: 0, to: 5000, by: 500) {
        var batch = StatementBatch()
        for number in first..<first + 500 {
          batch.append("\(number)")
          batch.call("SELECT \(number) WHERE $1 = '\(number)'", expectedRows: 1)
        }
        try await connection.execute(batch, doing: "running many statements")
      }
      let held = try await connection.query(
        "SELECT count(*) AS n FROM pg_prepared_statements", doing: "counting")
      #expect(try held.first?.integer("n") ?? 0 <= 2500)
      // Those of before are prepared again.
      var batch = StatementBatch()
      for number in [0, 4999] {
        batch.append("\(number)")
        batch.call("SELECT \(number) WHERE $1 = '\(number)'", expectedRows: 1)
      }
      try await connection.execute(batch, doing: "running them again")
      await connection.close()
    }
  }

  @Test(
    "Case 43: a target that runs out of disk keeps the engine waiting, says so, and goes on with more room",
    .rootCanMount)
  func diskFull() async throws {
    try await SmallDisk.with("diskfull") { disk in
      let tables = ["CREATE TABLE t (id int PRIMARY KEY, v text)"]
      // What is not encrypted needs to be allowed.
      try await Running.stream("diskfull", ["--allow-unencrypted-target"], tables: tables) { running in
        let space = "small_\(running.scene.databases.name)"
        try await running.target([
          "CREATE TABLESPACE \(space) LOCATION '\(disk.directory)'",
          "SET session_replication_role = replica",
          "ALTER TABLE t SET TABLESPACE \(space)",
        ])
        try await running.source(["INSERT INTO t VALUES (0, 'fits')"])
        try await running.settle()
        try await running.source([
          "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i"
        ])
        for part in ["SQLSTATE 53100", "give the target more room"] {
          try await running.scene.waitUntil("a status with \(part)", running.engine) {
            $0.engine.running && !$0.ready && $0.stream.waitsFor?.contains(part) == true
          }
        }
        #expect(try await running.scene.targetValue("SELECT count(*) FROM t") == "1")
        try await disk.grow()
        try await running.expectEqualEnds()
        try await running.target(["ALTER TABLE t SET TABLESPACE pg_default", "DROP TABLESPACE \(space)"])
      }
    }
  }
}

/// A small file system that the servers write to, and that can grow.
struct SmallDisk: Sendable {
  let directory: String

  static func with(_ name: String, _ body: (SmallDisk) async throws -> Void) async throws {
    let directory = try await freshDirectory()
    try await Command.check(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", name, directory])
    try await Command.check(["chown", "postgres", directory])
    let result: Result<Void, any Error>
    do { result = .success(try await body(SmallDisk(directory: directory))) } catch {
      result = .failure(error)
    }
    try await Command.check(["umount", "-l", directory])
    try result.get()
  }

  func grow() async throws {
    try await Command.check(["mount", "-o", "remount,size=200m", directory])
  }
}

extension Trait where Self == ConditionTrait {
  static var rootCanMount: Self {
    .enabled(if: ClusterPair.canKillServers && geteuid() == 0, "needs root, to mount a small file system")
  }
}
