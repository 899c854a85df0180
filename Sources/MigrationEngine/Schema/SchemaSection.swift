/// The parts in which a schema is restored. pg_dump's post-data is cut in two: indexes speed up the stream
/// and need nothing but their own table's rows, while foreign keys hold only once all tables stand at the
/// same LSN, and triggers, rules and policies belong to users' writes.
package enum SchemaSection: String, Sendable, CaseIterable {
  case preData
  case indexes
  case constraints

  /// As `pg_restore --section` calls it.
  var dumpSection: String {
    switch self {
    case .preData: "pre-data"
    case .indexes, .constraints: "post-data"
    }
  }
}

/// An entry of the list that `pg_restore --list` prints: `3360; 2606 16402 FK CONSTRAINT public t name
/// owner`.
struct SchemaEntry: Equatable {
  /// The row of the system catalog that the entry stands for.
  struct CatalogID: Hashable {
    var classOID: UInt32
    var oid: UInt32
  }

  let line: Substring
  let id: CatalogID
  /// Begins with the kind of the object.
  let description: Substring

  init?(_ line: Substring) {
    let parts = line.split(separator: " ", maxSplits: 3)
    guard parts.count == 4, parts[0].last == ";", UInt32(parts[0].dropLast()) != nil,
      let classOID = UInt32(parts[1]), let oid = UInt32(parts[2])
    else { return nil }
    self.line = line
    id = CatalogID(classOID: classOID, oid: oid)
    description = parts[3]
  }

  private static let indexKinds = ["INDEX ", "CONSTRAINT ", "STATISTICS "]

  /// Whether the entry is restored with the indexes: `INDEX`, `INDEX ATTACH`, and the constraints that
  /// indexes carry.
  var isIndex: Bool { Self.indexKinds.contains { description.hasPrefix($0) } }

  private static let schemaKinds = [
    "SCHEMA ", "COMMENT - SCHEMA ", "ACL - SCHEMA ", "SECURITY LABEL - SCHEMA ",
  ]

  /// A schema, or what belongs to one: pg_restore brings that only together with its schema.
  var isSchema: Bool { Self.schemaKinds.contains { description.hasPrefix($0) } }
  /// A partition, or its index, becomes one of its parent's.
  var isAttachment: Bool { description.hasPrefix("TABLE ATTACH ") || description.hasPrefix("INDEX ATTACH ") }

  /// Those of a list that belong to a section, without the objects that this program itself made.
  static func entries(
    of section: SchemaSection, in list: String, excluding own: Set<CatalogID>
  ) -> [SchemaEntry] {
    list.split(separator: "\n").compactMap { SchemaEntry($0) }
      .filter { entry in
        guard !own.contains(entry.id) else { return false }
        return switch section {
        case .preData: true
        case .indexes: entry.isIndex
        case .constraints: !entry.isIndex
        }
      }
  }
}
