import Foundation
import LibPQ

/// What a dump says of objects that are not made from it: those that an extension brings, the system's own,
/// and schemas that the target has for an extension. Often they belong to another role there, a provider's,
/// who alone may change them; so each is tried for itself, after the rest.
struct ForeignParts {
  /// To be tried.
  private let entries: [SchemaEntry]
  /// Comments of extensions by the entry that sets them.
  private let comments: [Int: String]

  /// Takes them out of `entries`.
  /// - Parameter list: all entries of the dump.
  static func take(
    from entries: inout [SchemaEntry], of list: String, _ dependencies: SchemaDependencies, target: Connection
  ) async throws -> ForeignParts {
    let rows = try await target.query(
      """
      SELECT n.nspname, pg_catalog.quote_ident(n.nspname) AS quoted FROM pg_catalog.pg_namespace n
      WHERE EXISTS (SELECT FROM pg_catalog.pg_extension x WHERE x.extnamespace = n.oid)
      """, doing: "listing the schemas that the target has for extensions", within: .seconds(30))
    let schemas = Set(try rows.flatMap { try [$0.text("nspname"), $0.text("quoted")] })
    let known = Set(list.split(separator: "\n").compactMap { SchemaEntry($0)?.dumpID })
    var tried: [SchemaEntry] = []
    var comments: [Int: String] = [:]
    entries.removeAll { entry in
      // The target has it; its owner stays.
      if schemas.contains(where: { entry.description.hasPrefix("SCHEMA - \($0) ") }) { return true }
      if entry.description.hasPrefix(Self.commentMark) {
        // CREATE EXTENSION has set it; only another one is worth a try.
        comments[entry.dumpID] = String(entry.description.dropFirst(Self.commentMark.count))
        tried.append(entry)
        return true
      }
      let needs = dependencies.needs[entry.dumpID, default: []]
      let isOfSchema = schemas.contains { schema in
        Self.ofSchemas.contains { entry.description.hasPrefix("\($0) - SCHEMA \(schema) ") }
      }
      let isForeign =
        isOfSchema
        || entry.description.hasPrefix("ACL ") && !needs.isEmpty && !needs.contains(where: known.contains)
      if isForeign { tried.append(entry) }
      return isForeign
    }
    return ForeignParts(entries: tried, comments: comments)
  }

  private static let commentMark = "COMMENT - EXTENSION "
  private static let ofSchemas = ["COMMENT", "ACL", "SECURITY LABEL"]

  /// - Returns: what the target refused to our role, by name.
  func restore(with scripts: SchemaScripts, source: Connection, target: Connection) async throws -> [String] {
    async let here = Self.commented(source)
    async let there = Self.commented(target)
    let (wanted, present) = try await (here, there)
    let different = Set(wanted.keys.filter { wanted[$0] != present[$0] && present[$0] != nil })
    let entries = entries.filter { entry in
      guard let rest = comments[entry.dumpID] else { return true }
      return different.contains { rest.hasPrefix("\($0) ") }
    }
    let refused = try await scripts.make(
      entries, UserExpressions(), SchemaDependencies(of: ""), source: source)
    // Privileges on the system are up to each server's operator.
    return refused.filter { !$0.entry.description.hasPrefix("ACL pg_catalog ") }
      .map { "\($0.name): \($0.error.message)" }
  }

  /// The comments of extensions by name, as an entry of a dump may write it.
  private static func commented(_ end: Connection) async throws -> [String: String] {
    let rows = try await end.query(
      """
      SELECT e.extname, pg_catalog.quote_ident(e.extname) AS quoted,
        coalesce(pg_catalog.obj_description(e.oid, 'pg_extension'), '') AS comment
      FROM pg_catalog.pg_extension e
      """, doing: "reading the comments of the \(end.end)'s extensions", within: .seconds(30))
    var comments: [String: String] = [:]
    for row in rows {
      for name in try [row.text("extname"), row.text("quoted")] { comments[name] = try row.text("comment") }
    }
    return comments
  }
}
