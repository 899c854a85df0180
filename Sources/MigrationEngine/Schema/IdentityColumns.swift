package import LibPQ

/// GENERATED ALWAYS AS IDENTITY refuses an UPDATE to any value but DEFAULT, also to replication. While the
/// stream runs, such columns of the target are BY DEFAULT; when it opens they are what they were.
package enum IdentityColumns {
  /// One that is GENERATED ALWAYS on the source.
  package struct Column: Sendable, Codable, Equatable {
    var relation: RelationName
    var name: String
  }

  package static func relax(_ catalog: Catalog, on target: Connection) async throws {
    try await set("BY DEFAULT", always(in: catalog), on: target)
  }

  package static func restore(_ catalog: Catalog, on target: Connection) async throws {
    try await restore(always(in: catalog), on: target)
  }

  package static func restore(_ columns: [Column], on target: Connection) async throws {
    try await set("ALWAYS", columns, on: target)
  }

  /// - Parameter catalog: the source's, where the columns are as the user made them.
  package static func always(in catalog: Catalog) -> [Column] {
    catalog.relations.filter { !$0.isPartition }.flatMap { relation in
      relation.columns.filter { $0.identity == .always }.map {
        Column(relation: relation.name, name: $0.name)
      }
    }
  }

  private static func set(_ generated: String, _ columns: [Column], on target: Connection) async throws {
    let statements = columns.map { column in
      """
      ALTER TABLE \(column.relation) ALTER COLUMN \(SQL.identifier(column.name)) SET GENERATED \(generated)
      """
    }
    // Many in one round trip and one commit: users wait for this.
    for batch in statements.batches(of: 500) {
      try await LockRetry.run(
        batch.joined(separator: ";\n"), on: target,
        doing: "setting the \(target.end)'s identity columns to GENERATED \(generated)", within: .seconds(60))
    }
  }
}
