import LibPQ

/// An extension that the target would create in a version other than the source's, although it offers that
/// one: pg_dump writes no versions.
struct PinnedExtension: Sendable {
  var name: String
  var schema: String
  var version: String

  /// In the order in which the source got them, which respects their dependencies.
  static func read(source: Connection, target: Connection) async throws -> [PinnedExtension] {
    let installed = try await source.query(
      """
      SELECT e.extname, n.nspname, e.extversion FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.oid
      """, doing: "listing the source's extensions", within: .seconds(30))
    let offered = try await target.query(
      """
      SELECT v.name, v.version FROM pg_catalog.pg_available_extension_versions v
        JOIN pg_catalog.pg_available_extensions e ON e.name = v.name
      WHERE e.installed_version IS NULL AND v.version IS DISTINCT FROM e.default_version
      """, doing: "listing the extensions that the target offers", within: .seconds(30))
    var versions: [String: Set<String>] = [:]
    for row in offered { versions[try row.text("name"), default: []].insert(try row.text("version")) }
    return try installed.compactMap { row in
      let pinned = PinnedExtension(
        name: try row.text("extname"), schema: try row.text("nspname"), version: try row.text("extversion"))
      return versions[pinned.name]?.contains(pinned.version) == true ? pinned : nil
    }
  }

  func create(on target: Connection) async throws {
    let name = SQL.identifier(name)
    try await target.query(
      """
      CREATE EXTENSION IF NOT EXISTS \(name) WITH SCHEMA \(SQL.identifier(schema)) \
      VERSION \(SQL.literal(version)) CASCADE
      """, doing: "creating extension \(name) in the source's version \(version)")
  }
}
