import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// pg_dump makes the inherited columns of a table first, wherever they stand on the source.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct ColumnOrderTests {
  private static let inherited = [
    "CREATE TABLE parent (k int PRIMARY KEY)",
    "CREATE TABLE child (own int, PRIMARY KEY (k)) INHERITS (parent)",
    "ALTER TABLE parent ADD COLUMN late int DEFAULT 9", "INSERT INTO child VALUES (1, 5, 6)",
  ]

  @Test(
    "A table that will have its columns in another order is named, and refuses the cutover until accepted")
  func named() async throws {
    try await Scene.run("columnorder") { scene in
      for sql in Self.inherited { try await scene.source(sql) }
      let check = try await scene.replicate.run("check")
      #expect(check.exitCode == 0, "\(check.output)")
      #expect(check.output.contains("column_order"), "\(check.output)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      let name = "column order of table public.child"
      #expect(refused.errors.contains("--accept-difference '\(name)'"), "\(refused.errors)")
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 4, "\(verify.output)\(verify.errors)")
      let cutover = try await scene.replicate.run("cutover", "--yes", "--accept-difference", name)
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      let values = "SELECT own || ' ' || late FROM child"
      #expect(try await scene.targetValue(values) == "5 6", "by name")
    }
  }

  @Test("Values of its row type would be read in the wrong order, so nothing begins")
  func rowType() async throws {
    try await Scene.run("columnordertype") { scene in
      for sql in Self.inherited { try await scene.source(sql) }
      try await scene.source(
        "CREATE DOMAIN known AS child[] CHECK (VALUE IS NOT NULL)", "CREATE TYPE pair AS (a int, b known)",
        "CREATE TABLE holder (id int PRIMARY KEY, v pair)")
      let check = try await scene.replicate.run("check")
      #expect(check.exitCode == 3, "\(check.output)")
      #expect(check.output.contains("public.holder.v"), "\(check.output)")
      let left = try await scene.replicate.run("check", "--exclude-table", "public.holder")
      #expect(left.exitCode == 0 && left.output.contains("column_order"), "\(left.output)")
    }
  }

  @Test("A table that is made anew as advised is named no more, and goes over")
  func madeAnew() async throws {
    try await Scene.run("columnorderanew") { scene in
      for sql in Self.inherited { try await scene.source(sql) }
      let before = try await scene.replicate.run("check")
      #expect(before.output.contains("Recreate the table on the source, with the inherited columns first"))
      try await scene.source(
        """
        BEGIN; ALTER TABLE child RENAME TO old; ALTER INDEX child_pkey RENAME TO old_pkey;
        CREATE TABLE child (own int, PRIMARY KEY (k)) INHERITS (parent);
        INSERT INTO child (k, own, late) SELECT k, own, late FROM old; DROP TABLE old; COMMIT
        """)
      let check = try await scene.replicate.run("check")
      #expect(check.exitCode == 0 && !check.output.contains("column_order"), "\(check.output)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(30)) == 0, "\(engine.errors)")
      #expect(try await scene.targetValue("SELECT own || ' ' || late FROM child") == "5 6")
    }
  }
}
