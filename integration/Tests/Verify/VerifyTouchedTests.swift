import Clusters
import Foundation
import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// What a cutover compares: rows that the stream has touched since both ends were compared, and what is
/// compared where they never were.
@Suite(.serialized, .servers(about: 50), .timeLimit(.minutes(4)))
struct VerifyTouchedTests {
  private static let tables = [
    "CREATE TABLE plain (id int PRIMARY KEY, v text)",
    "INSERT INTO plain SELECT n, 'row ' || n FROM generate_series(1, 1000) n",
    "CREATE TABLE pair (a int, b text, v int, PRIMARY KEY (b, a))",
    "INSERT INTO pair SELECT n, 'k\"\\' || n, n FROM generate_series(1, 100) n",
    "CREATE TABLE parts (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
    "CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu')",
    "CREATE TABLE parts_us PARTITION OF parts FOR VALUES IN ('us')",
    "INSERT INTO parts SELECT n, 'eu', n FROM generate_series(1, 100) n",
    "CREATE TABLE large (id int PRIMARY KEY, v int, note text)",
    "INSERT INTO large SELECT n, 0, repeat('x', 40) FROM generate_series(1, 3000) n",
    "CREATE TABLE cut (id int PRIMARY KEY)", "INSERT INTO cut SELECT generate_series(1, 50)",
  ]

  /// Tables, what is written to them on the source, what is then planted on the target, how it is mended
  /// there, and what a refusal names.
  private struct Case {
    var tables: [String]
    var writes: [String]
    var plants: [String]
    var mends: [String]
    var names: [String]
  }

  /// Two cutovers: a refusal names so many rows of a table, and so many tables, and no more.
  private static let cases = [
    Case(
      tables: ["plain"],
      writes: [
        "UPDATE plain SET v = 'new' WHERE id = 7", "INSERT INTO plain VALUES (5000, 'in')",
        "DELETE FROM plain WHERE id = 9", "UPDATE plain SET id = 6000 WHERE id = 10",
      ],
      plants: [
        "UPDATE plain SET v = 'old' WHERE id = 7", "DELETE FROM plain WHERE id = 5000",
        "INSERT INTO plain VALUES (9, 'ghost'), (10, 'ghost')",
      ],
      mends: [
        "UPDATE plain SET v = 'new' WHERE id = 7", "INSERT INTO plain VALUES (5000, 'in')",
        "DELETE FROM plain WHERE id IN (9, 10)",
      ],
      names: ["different (id)=(7)", "missing (id)=(5000)", "extra (id)=(9)", "extra (id)=(10)"]),
    Case(
      tables: ["pair", "parts", "large", "cut"],
      writes: [
        "UPDATE pair SET v = -1 WHERE a = 3", "UPDATE parts SET region = 'us' WHERE id IN (5, 6)",
        "UPDATE large SET v = 1", "TRUNCATE cut", "INSERT INTO cut VALUES (1)",
      ],
      plants: [
        "UPDATE pair SET v = 0 WHERE a = 3", "UPDATE parts_us SET v = 0 WHERE id = 5",
        "INSERT INTO parts_eu VALUES (6, 'eu', 6)", "UPDATE large SET v = 2 WHERE id = 1234",
        "INSERT INTO cut VALUES (77)",
      ],
      mends: [
        "UPDATE pair SET v = -1 WHERE a = 3", "UPDATE parts_us SET v = 5 WHERE id = 5",
        "DELETE FROM parts_eu WHERE id = 6", "UPDATE large SET v = 1 WHERE id = 1234",
        "DELETE FROM cut WHERE id = 77",
      ],
      names: [
        "\"pair\": different (b, a)=(k\"\\3, 3)", "\"parts_us\": different (id, region)=(5, us)",
        "\"parts_eu\": extra (id, region)=(6, eu)", "\"large\": different (id)=(1234)",
        "\"cut\": extra (id)=(77)",
      ]),
  ]

  @Test(
    "A row that the stream has touched, however, and that then differs aborts the cutover, and is named",
    arguments: [true, false])
  func touched(inBinary: Bool) async throws {
    try await Scene.run("touched\(inBinary)") { scene in
      try await scene.source(
        "ALTER DATABASE \(scene.databases.name) SET logical_decoding_work_mem = '64kB'")
      for sql in Self.tables { try await scene.source(sql) }
      if !inBinary { try await scene.source("CREATE TABLE odd (id int PRIMARY KEY, c regclass)") }
      let engine = try await scene.start("--log-level", "debug")
      try await scene.waitUntilReady(engine)
      let source = try await ClusterPair.sourceMajor()
      let form = inBinary && source >= 14 ? "binary" : "text"
      #expect(engine.errors.contains("streaming in \(form)"), "\(engine.errors)")
      try await scene.expectVerified()
      for one in Self.cases {
        // The source takes writes: also after the last cutover, which was aborted.
        for sql in one.writes { try await scene.source(sql) }
        for table in one.tables { try await scene.waitForEqual(table, engine) }
        try await scene.plant(one.plants)
        try await scene.expectAborted(naming: one.names)
        try await scene.plant(one.mends)
      }
      if source >= 14 {
        let streamed = try await scene.sourceValue(
          """
          SELECT stream_txns > 0 FROM pg_stat_replication_slots JOIN pg_replication_slots USING (slot_name)
          WHERE database = current_database()
          """)
        #expect(streamed == "t")
      }
      let proof = try await scene.rehearse()
      #expect(proof.extent == .changed && proof.result == .equal && proof.tables == 6, "\(proof)")
    }
  }

  @Test("All rows, or their number, are compared when asked for, or when nothing says what was touched")
  func untouched() async throws {
    try await Scene.run("untouched") { scene in
      for sql in Self.tables { try await scene.source(sql) }
      var engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let first = try await scene.rehearse()
      #expect(first.extent == .full && first.result == .equal && first.tables == 6, "\(first)")
      #expect(first.notice?.contains("replicate verify") == true, "\(first)")
      let fenceLSN = try await scene.status().cutover?.fenceLSN
      #expect(first.lsn != nil && first.lsn == fenceLSN, "\(first)")
      try await scene.expectVerified()

      // A row that nothing has touched shows only in a look at all of them.
      try await scene.plant("UPDATE plain SET v = 'planted' WHERE id = 500")
      #expect(try await scene.rehearse().tables == 0)
      #expect(try await scene.rehearse("--verify", "counts").result == .equal)
      try await scene.expectAborted("--verify", "full", naming: ["different (id)=(500)"])
      try await scene.plant(
        "UPDATE plain SET v = 'row 500' WHERE id = 500", "DELETE FROM cut WHERE id = 5")
      try await scene.expectAborted(
        "--verify", "counts", naming: ["\"cut\": 50 rows on the source, 49 on the target"])

      // The next engine does not know what the one before it has compared.
      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let aborted = try await scene.expectAborted(naming: ["missing (id)=(5)"])
      #expect(aborted.output.contains("all rows were compared instead"), "\(aborted.output)")
      // Long enough for the cutover, unless the machine is busy, and too short for any comparison.
      var none = try await scene.rehearsal("--max-pause", "250ms")
      try await waitUntil("a rehearsal in so short a time", within: .seconds(60)) {
        if none.exitCode != 0 { none = try await scene.rehearsal("--max-pause", "250ms") }
        return none.exitCode == 0
      }
      #expect(none.output.contains("nothing was compared"), "\(none.output)")
      #expect(none.output.contains("replicate verify"), "\(none.output)")
      try await scene.plant("INSERT INTO cut VALUES (5)")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let report = try await scene.report()
      let compared = try #require(report.verifications.last?.outcome)
      #expect(compared.extent == .full && compared.lsn != nil)
      #expect(compared.lsn?.description == report.cutovers.last?.outcome?.fenceLSN)
    }
  }

  @Test("A table that differed and was then renamed on both ends is looked at under its new name")
  func renamed() async throws {
    try await Scene.run("renamed") { scene in
      try await scene.source(
        "CREATE TABLE old (id int PRIMARY KEY, v int)", "INSERT INTO old VALUES (1, 1)",
        "CREATE TABLE gone (id int PRIMARY KEY)", "CREATE TABLE first (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.plant("UPDATE old SET v = 2", "INSERT INTO gone VALUES (1)")
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 4, "\(verify.output)\(verify.errors)")
      let renames = [
        "ALTER TABLE old RENAME TO new", "ALTER TABLE first RENAME TO second", "DROP TABLE gone",
      ]
      for sql in renames { try await scene.target(sql) }
      for sql in renames { try await scene.source(sql) }
      // The stream meets one of the names, and looks for all.
      try await scene.source("INSERT INTO second VALUES (1)")
      try await scene.waitForEqual("second", engine)
      try await scene.expectAborted(naming: ["\"new\": different (id)=(1)"])
    }
  }
}

extension Scene {
  /// Writes to the target past its fence.
  func plant(_ statements: String...) async throws { try await plant(statements) }

  func plant(_ statements: [String]) async throws {
    let session = try await SQLSession(
      databases.target, settings: ["session_replication_role": "replica"])
    for sql in statements { try await session.execute(sql) }
    await session.close()
  }

  func expectVerified(_ options: String...) async throws {
    let verify = try await replicate.run(["verify"] + options)
    #expect(verify.exitCode == 0, "\(verify.output)\(verify.errors)")
  }

  /// A cutover that is aborted by the comparison, and leaves the source open.
  @discardableResult
  func expectAborted(_ options: String..., naming names: [String]) async throws -> Finished {
    let cutover = try await replicate.run(["cutover", "--yes"] + options)
    #expect(cutover.exitCode == 5, "\(cutover.output)\(cutover.errors)")
    for name in names { #expect(cutover.errors.contains(name), "\(name): \(cutover.errors)") }
    #expect(try await sourceValue("SELECT state FROM replicate.fence()") == "open")
    return cutover
  }

  func rehearsal(_ options: String...) async throws -> Finished {
    try await replicate.run(["cutover", "--yes", "--dry-run"] + options)
  }

  /// - Returns: what a rehearsal compared.
  func rehearse(_ options: String...) async throws -> Status.Comparison {
    let rehearsal = try await replicate.run(["cutover", "--yes", "--dry-run"] + options)
    #expect(rehearsal.exitCode == 0, "\(rehearsal.output)\(rehearsal.errors)")
    return try #require(try await status().cutover?.verification)
  }

  func waitForEqual(_ table: String, _ engine: BackgroundProcess) async throws {
    let sum = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \(table) AS t"
    try await engine.waitUntil("\(table) to be the same", within: .seconds(30)) {
      let (source, target) = try await (sourceValue(sum), targetValue(sum))
      return source == target
    }
  }
}
