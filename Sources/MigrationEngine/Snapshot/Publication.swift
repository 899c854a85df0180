import LibPQ
import LogicalReplication

/// The publication of all migrated tables (manual, section 31.1).
struct Publication: Sendable {
  let name: String

  /// Creates the publication: with the root of each partition tree, so that partitions created later belong
  /// to it, and with the partitions themselves, so that detached ones still do.
  ///
  /// Before the slot: a slot fails when it decodes changes from before its publication.
  func ensure(_ relations: [Relation], on source: Connection) async throws {
    let found = try await source.query(
      "SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", [name],
      doing: "looking for publication \(quotedIdentifier(name))")
    let members = relations.filter { !$0.isUnlogged }.map { "ONLY \($0.name)" }
    if found.isEmpty { try await create(members.prefix(Self.batchSize), on: source) }
    // The rest, including those that a killed engine left.
    if !found.isEmpty || members.count > Self.batchSize { try await add(relations, on: source) }
  }

  /// How many tables one transaction locks: tens of thousands would fill the server's lock table.
  private static let batchSize = 500

  private func create(_ members: ArraySlice<String>, on source: Connection) async throws {
    let list = members.isEmpty ? "" : " FOR TABLE \(members.joined(separator: ", "))"
    try await source.query(
      """
      SET lock_timeout = '10s';
      CREATE PUBLICATION \(quotedIdentifier(name))\(list);
      SET lock_timeout = 0
      """, doing: "creating publication \(quotedIdentifier(name))", within: .seconds(120))
  }

  /// Adds tables that were created later. Transactions writing to them now may be decoded without them, so
  /// their snapshot must be taken afterwards: a new slot begins when all these transactions have ended.
  func add(_ relations: [Relation], on source: Connection) async throws {
    let rows = try await source.query(
      """
      SELECT r.prrelid FROM pg_catalog.pg_publication_rel r
        JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1
      """, [name], doing: "reading the tables of publication \(quotedIdentifier(name))", within: .seconds(15))
    let present = Set(try rows.map { try $0.integer("prrelid", as: UInt32.self) })
    let missing = relations.filter { !$0.isUnlogged && !present.contains($0.oid) }
    for batch in missing.batches(of: Self.batchSize) {
      let list = batch.map { "ONLY \($0.name)" }.joined(separator: ", ")
      try await LockRetry.execute(
        "ALTER PUBLICATION \(quotedIdentifier(name)) ADD TABLE \(list)", on: source,
        doing: "adding \(Self.words(batch)) to publication \(quotedIdentifier(name))", within: .seconds(60))
    }
  }

  private static func words(_ relations: some Collection<Relation>) -> String {
    let first = relations.prefix(3).map(\.name.description).joined(separator: ", ")
    return relations.count > 3 ? "\(first) and \(relations.count - 3) more" : first
  }

  func drop(on source: Connection) async throws {
    try await source.query(
      "DROP PUBLICATION IF EXISTS \(quotedIdentifier(name))",
      doing: "dropping publication \(quotedIdentifier(name))",
      within: .seconds(30))
  }
}
