/// The parts in which a schema is restored. pg_dump's post-data is cut in two: indexes speed up the stream
/// and need nothing but their own table's rows, while foreign keys hold only once all tables stand at the
/// same LSN, and triggers, rules and policies belong to users' writes.
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
  /// The row of the system catalog that the entry stands for.
  struct CatalogID: Hashable {
    var classOID: UInt32
    var oid: UInt32
  }

  let line: Substring
  /// What other entries of the same dump call it.
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

  /// Whether the entry is restored with the indexes, if it needs nothing that comes later: `INDEX`, `INDEX
  /// ATTACH`, and the constraints that indexes carry.
  var isIndex: Bool { Self.indexKinds.contains { description.hasPrefix($0) } }

  private static let schemaKinds = [
    "SCHEMA ", "COMMENT - SCHEMA ", "ACL - SCHEMA ", "SECURITY LABEL - SCHEMA ",
  ]

  /// A schema, or what belongs to one: pg_restore brings that only together with its schema.
  var isSchema: Bool { Self.schemaKinds.contains { description.hasPrefix($0) } }
  /// What leads to another server, whose wrapper may know other options on the target.
  var isForeign: Bool { Self.foreignKinds.contains { description.hasPrefix($0) } }
  private static let foreignKinds = ["FOREIGN DATA WRAPPER ", "SERVER ", "USER MAPPING ", "FOREIGN TABLE "]
  /// Schema public, or what belongs to it: it is there before the rest, and others own it on many targets.
  var isPublicSchema: Bool { Self.ofPublic.contains { description.hasPrefix($0) } }
  private static let ofPublic = [
    "SCHEMA - public ", "COMMENT - SCHEMA public ", "ACL - SCHEMA public ",
    "SECURITY LABEL - SCHEMA public ",
  ]
  /// A partition, or its index, becomes one of its parent's.
  var isAttachment: Bool { description.hasPrefix("TABLE ATTACH ") || description.hasPrefix("INDEX ATTACH ") }

  /// pg_restore would refresh under its own empty path; it is done later, under the owner's settings.
  var isRefresh: Bool { description.hasPrefix("MATERIALIZED VIEW DATA ") }

  /// Those of a list that belong to a section, without the objects that this program itself made. The indexes
  /// of materialized views come with the constraints, as a view itself may that needs a primary key.
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

/// What the entries of a dump need of each other: pg_dump has put each behind that.
struct SchemaDependencies {
  private(set) var needs: [Int: [Int]] = [:]
  private(set) var materializedViews: Set<Int> = []

  /// Entries, in the order of the dump, put together so that none needs another of its own group.
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

  /// Those of `entries`, in the order of the dump, that need one of some others, or need what needs it.
  func closure(of others: Set<Int>, in entries: [SchemaEntry]) -> Set<Int> {
    var found = others
    for entry in entries where needs[entry.dumpID, default: []].contains(where: found.contains) {
      found.insert(entry.dumpID)
    }
    return found.subtracting(others)
  }

  /// - Parameter list: of the whole dump, as `pg_restore --list --verbose` prints it.
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
