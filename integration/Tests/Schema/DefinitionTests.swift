import Clusters
import MigrationEngine
import Testing

/// Definitions that change on the source while the target follows.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct DefinitionTests {
  @Test(
    "Case 40: a changed table stops the stream before its first change, and the same DDL starts it"
  )
  func changedTable() async throws {
    try await Scene.run("definition") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE TABLE other (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1, 1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      // What comes before the change of definition, in the same chunk too, is applied.
      try await scene.source(
        "INSERT INTO other VALUES (1) \\; ALTER TABLE t ADD COLUMN note text DEFAULT 'none'",
        "INSERT INTO t VALUES (2, 2, 'two')", "INSERT INTO other VALUES (2)")
      let remedy = "ALTER TABLE \"public\".\"t\" ADD COLUMN \"note\" text DEFAULT 'none';"
      try await scene.waitUntil("waiting for the column", engine) {
        $0.stream.waitsFor?.contains(remedy) == true && !$0.ready
      }
      #expect(try await scene.targetValue("SELECT count(*) FROM other") == "1")
      #expect(try await scene.targetValue("SELECT count(*) FROM t") == "1")
      try await scene.target("ALTER TABLE t ADD COLUMN note text DEFAULT 'none'")
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "ALTER TABLE t ALTER COLUMN v TYPE bigint", "INSERT INTO t VALUES (3, 3000000000, 'three')")
      try await scene.waitUntil("waiting for the type", engine) {
        $0.stream.waitsFor?.contains("ALTER COLUMN \"v\" TYPE bigint USING") == true
      }
      try await scene.target("ALTER TABLE t ALTER COLUMN v TYPE bigint")
      try await scene.waitUntilReady(engine)
      try await scene.source("ALTER TABLE t DROP COLUMN note", "INSERT INTO t VALUES (4, 4)")
      try await scene.waitUntil("waiting for the column to go", engine) {
        $0.stream.waitsFor?.contains("DROP COLUMN \"note\";") == true
      }
      try await scene.target("ALTER TABLE t DROP COLUMN note")
      try await scene.waitUntilReady(engine)
      try await scene.source("ALTER TABLE t RENAME TO renamed", "INSERT INTO renamed VALUES (5, 5)")
      try await scene.waitUntil("waiting for the name", engine) {
        $0.stream.waitsFor?.contains("ALTER TABLE \"public\".\"t\" RENAME TO \"renamed\";") == true
      }
      try await scene.target("ALTER TABLE t RENAME TO renamed")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }

  @Test("Case 40: two changes at once on the target, ahead of the stream, are no difference")
  func aheadOfStream() async throws {
    try await Scene.run("ahead") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      try await scene.source(
        "ALTER TABLE t ADD COLUMN a int", "INSERT INTO t VALUES (1, 1, 1)",
        "ALTER TABLE t ADD COLUMN b int", "INSERT INTO t VALUES (2, 2, 2, 2)",
        """
        BEGIN \\; INSERT INTO t VALUES (3, 3, 3, 3) \\; ALTER TABLE t ALTER v TYPE numeric \\;
        UPDATE t SET v = v + 0.5 \\; COMMIT
        """)
      try await scene.waitUntil("waiting", engine) { $0.stream.waitsFor != nil }
      try await scene.target("ALTER TABLE t ADD COLUMN a int, ADD COLUMN b int, ALTER v TYPE numeric")
      try await scene.waitUntilReady(engine)
      try await scene.expectEqualEnds(engine)
    }
  }
}
