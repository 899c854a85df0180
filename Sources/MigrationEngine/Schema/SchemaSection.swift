/// The parts in which a schema is restored. pg_dump's post-data is split in two: indexes speed up the stream
/// and need only their own table's rows, while foreign keys hold only once all tables are at the same LSN,
/// and triggers, rules and policies are for users' writes.
enum SchemaSection: String, Sendable, CaseIterable {
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
  /// The entry's row in the system catalog.
  struct CatalogID: Hashable {
    var classOID: UInt32
    var oid: UInt32
  }

  let line: Substring
  /// Its ID for other entries of the same dump.
  let dumpID: Int
  let id: CatalogID
  /// Begins with the kind of the object.
  let description: Substring

  init?(_ line: Substring) {
    let parts = line.split(separator: " ", maxSplits: 3)
    guard parts.count == 4, parts[0].last == ";", let dumpID = UInt32(parts[0].dropLast()),
      let classOID = UInt32(parts[1]), let oid = UInt32(parts[2])
    else { return nil }
    self.line = line
    self.dumpID = Int(dumpID)
    id = CatalogID(classOID: classOID, oid: oid)
    description = parts[3]
  }

  private static let indexKinds = ["INDEX ", "CONSTRAINT ", "STATISTICS "]

  /// Whether the entry is restored with the indexes, if it needs nothing later: `INDEX`, `INDEX ATTACH`, and
  /// the constraints that indexes carry.
  var isIndex: Bool { Self.indexKinds.contains { description.hasPrefix($0) } }

  private static let schemaKinds = [
    "SCHEMA ", "COMMENT - SCHEMA ", "ACL - SCHEMA ", "SECURITY LABEL - SCHEMA ",
  ]

  /// A schema, or what belongs to one: pg_restore restores that only together with its schema.
  var isSchema: Bool { Self.schemaKinds.contains { description.hasPrefix($0) } }
  /// Objects of a foreign server, whose wrapper may know other options on the target.
  var isForeign: Bool { Self.foreignKinds.contains { description.hasPrefix($0) } }
  private static let foreignKinds = ["FOREIGN DATA WRAPPER ", "SERVER ", "USER MAPPING ", "FOREIGN TABLE "]
  /// Schema public, or what belongs to it: it exists before the rest, and has another owner on many targets.
  var isPublicSchema: Bool { Self.ofPublic.contains { description.hasPrefix($0) } }
  private static let ofPublic = [
    "SCHEMA - public ", "COMMENT - SCHEMA public ", "ACL - SCHEMA public ",
    "SECURITY LABEL - SCHEMA public ",
  ]
  /// A partition, or its index, is attached to its parent.
  var isAttachment: Bool { description.hasPrefix("TABLE ATTACH ") || description.hasPrefix("INDEX ATTACH ") }

  /// pg_restore would refresh under its own empty path; it is done later, under the owner's settings.
  var isRefresh: Bool { description.hasPrefix("MATERIALIZED VIEW DATA ") }

  /// The entries of a list that belong to a section, without this program's own objects. Indexes of
  /// materialized views come with the constraints, as may a view that needs a primary key.
  static func entries(
    of section: SchemaSection, in list: String, excluding own: Set<CatalogID>,
    _ dependencies: SchemaDependencies = SchemaDependencies(of: "")
  ) -> [SchemaEntry] {
    var later = dependencies.materializedViews
    return list.split(separator: "\n").compactMap { SchemaEntry($0) }
      .filter { entry in
        guard !own.contains(entry.id), !entry.isRefresh else { return false }
        guard section != .preData else { return true }
        let isLater =
          !entry.isIndex || dependencies.needs[entry.dumpID, default: []].contains(where: later.contains)
        if isLater { later.insert(entry.dumpID) }
        return isLater == (section == .constraints)
      }
  }
}

/// The dependencies between the entries of a dump: pg_dump has put each after those it needs.
struct SchemaDependencies {
  private(set) var needs: [Int: [Int]] = [:]
  private(set) var materializedViews: Set<Int> = []

  /// Entries, in the order of the dump, grouped so that none needs another of its group.
  func levels(of entries: [SchemaEntry]) -> [[SchemaEntry]] {
    var level: [Int: Int] = [:]
    var levels: [[SchemaEntry]] = []
    for entry in entries {
      let own = needs[entry.dumpID, default: []].compactMap { level[$0] }.max().map { $0 + 1 } ?? 0
      level[entry.dumpID] = own
      if own == levels.count { levels.append([]) }
      levels[own].append(entry)
    }
    return levels
  }

  /// Those of `entries`, in the order of the dump, that directly or indirectly need one of the others.
  func closure(of others: Set<Int>, in entries: [SchemaEntry]) -> Set<Int> {
    var found = others
    for entry in entries where needs[entry.dumpID, default: []].contains(where: found.contains) {
      found.insert(entry.dumpID)
    }
    return found.subtracting(others)
  }

  /// - Parameter list: the whole dump's, as printed by `pg_restore --list --verbose`.
  init(of list: String) {
    let mark = ";\tdepends on:"
    var last: Int?
    for line in list.split(separator: "\n") {
      if let entry = SchemaEntry(line) {
        last = entry.dumpID
        if entry.description.hasPrefix("MATERIALIZED VIEW "), !entry.isRefresh {
          materializedViews.insert(entry.dumpID)
        }
      } else if let last, line.hasPrefix(mark) {
        needs[last] = line.dropFirst(mark.count).split(separator: " ").compactMap { Int($0) }
      }
    }
  }
}
