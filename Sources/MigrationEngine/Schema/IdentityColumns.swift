package import LibPQ

/// GENERATED ALWAYS AS IDENTITY refuses an UPDATE to any value but DEFAULT, also to replication. While the
/// stream runs, such columns of the target are BY DEFAULT; before it opens they are what they were.
package enum IdentityColumns {
  package static func relax(_ catalog: Catalog, on target: Connection) async throws {
    try await set("BY DEFAULT", catalog, on: target)
  }

  package static func restore(_ catalog: Catalog, on target: Connection) async throws {
    try await set("ALWAYS", catalog, on: target)
  }

  /// - Parameter catalog: the source's, where the columns are as the user made them.
  private static func set(_ generated: String, _ catalog: Catalog, on target: Connection) async throws {
    for relation in catalog.relations where !relation.isPartition {
      for column in relation.columns where column.identity == .always {
        try await target.query(
          """
          ALTER TABLE \(relation.name)
            ALTER COLUMN \(SQL.identifier(column.name)) SET GENERATED \(generated)
          """,
          doing: "setting identity column \(SQL.identifier(column.name)) of \(relation.name) to \(generated)",
          within: .seconds(30))
      }
    }
  }
}
