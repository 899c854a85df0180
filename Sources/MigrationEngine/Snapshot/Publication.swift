package import LibPQ
import LogicalReplication

/// The publication of all tables that are migrated (manual, section 31.1).
package struct Publication: Sendable {
  package let name: String

  package init(name: String) { self.name = name }

  /// Creates the publication: with the root of each tree of partitions, so that partitions made later belong
  /// to it, and with the partitions themselves, so that those that are detached still do.
  ///
  /// Before the slot: a slot that decodes changes from before its publication fails on them.
  package func ensure(_ relations: [Relation], on source: Connection) async throws {
    let exists = try await source.query(
      "SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", [name],
      doing: "looking for publication \(quotedIdentifier(name))")
    guard exists.isEmpty else { return }
    let members = relations.filter { !$0.isUnlogged }.map { "ONLY \($0.name)" }
    let list = members.isEmpty ? "" : " FOR TABLE \(members.joined(separator: ", "))"
    try await source.query(
      """
      SET lock_timeout = '10s';
      CREATE PUBLICATION \(quotedIdentifier(name))\(list);
      SET lock_timeout = 0
      """, doing: "creating publication \(quotedIdentifier(name))", within: .seconds(120))
  }

  /// Adds tables that were created later. Whoever writes to them at this moment may be decoded without it, so
  /// their snapshot must be taken afterwards: a new slot begins when all these transactions have ended.
  package func add(_ relations: [Relation], on source: Connection) async throws {
    let rows = try await source.query(
      """
      SELECT r.prrelid FROM pg_catalog.pg_publication_rel r
        JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1
      """, [name], doing: "reading the tables of publication \(quotedIdentifier(name))", within: .seconds(15))
    let present = Set(try rows.map { try $0.integer("prrelid", as: UInt32.self) })
    let missing = relations.filter { !$0.isUnlogged && !present.contains($0.oid) }
    for batch in missing.batches(of: 100) {
      let list = batch.map { "ONLY \($0.name)" }.joined(separator: ", ")
      try await LockRetry.run(
        "ALTER PUBLICATION \(quotedIdentifier(name)) ADD TABLE \(list)", on: source,
        doing: "adding \(list) to publication \(quotedIdentifier(name))", within: .seconds(60))
    }
  }

  package func drop(on source: Connection) async throws {
    try await source.query(
      "DROP PUBLICATION IF EXISTS \(quotedIdentifier(name))",
      doing: "dropping publication \(quotedIdentifier(name))",
      within: .seconds(30))
  }
}
