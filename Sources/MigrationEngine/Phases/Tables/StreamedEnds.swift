import LibPQ
import LogicalReplication

/// What both ends of a leg have now, for the stream between them.
private struct StreamedEnds {
  /// The message that was written before the catalogs were read: what they say holds from there on.
  let catalogMark: String
  let from: [Relation]
  let to: [Relation]
  private let indexes: [UInt32: [UniqueIndex]]
  private let arrayForms: [UInt32: ArrayForm]
  private let foreignKeys: [RelationName: Set<RelationName>]
  private let settings: UserSettings

  init(from: Connection, to: Connection, noting sent: SentMessages) async throws {
    catalogMark = "\(UInt64.random(in: 0 ... .max))"
    try await from.emit(
      MessagePrefix.catalog, catalogMark, isTransactional: false, noting: sent,
      doing: "marking where the tables of the \(from.end) are read", within: .seconds(15))
    self.from = try await Catalog.read(from: from, measuring: false).relations
    self.to = try await Catalog.read(from: to, measuring: false).relations
    indexes = try await UniqueIndex.read(from: to)
    arrayForms = try await ArrayForm.read(from: to)
    foreignKeys = try await ForeignKeys.references(on: to)
    settings = try await UserSettings.read(from: from, usableOn: to)
  }

  /// - Parameters:
  ///   - snapshots: the tables whose changes are applied, and from which LSN on.
  ///   - origin: the table that a table of `to` gets its changes from, and how the two differ.
  func tables(
    excluded: Set<RelationName>, snapshots: [UInt32: (name: RelationName, lsn: LSN)],
    origin: (Relation) -> (table: Relation?, difference: TableDifference?)
  ) -> StreamTables {
    let targets = to.map { relation in
      let (source, difference) = origin(relation)
      var table = TargetTable(
        relation: relation, uniqueIndexes: indexes[relation.oid] ?? [], arrayForms: arrayForms,
        source: source)
      table.difference = difference
      return table
    }
    let ignored = from.filter { $0.kind == .partitioned || excluded.contains($0.name) }
    var tables = StreamTables(
      target: Dictionary(targets.map { ($0.relation.name, $0) }) { first, _ in first },
      snapshots: snapshots, ignored: Set(ignored.map(\.oid)), present: Set(from.map(\.oid)),
      sourceLSN: LSN(rawValue: .max))
    tables.catalogMark = catalogMark
    tables.foreignKeys = foreignKeys
    tables.settings = settings
    return tables
  }
}

extension MigratedTables {
  /// What the stream must know. Changes of tables that are to be copied, or copied again, are skipped: the
  /// copy will have them.
  func streamed(
    source: Connection, target: Connection, noting sent: SentMessages
  ) async throws -> StreamTables {
    let ends = try await StreamedEnds(from: source, to: target, noting: sent)
    let stored = try await StateStore(target).relations()
    var snapshots: [UInt32: (name: RelationName, lsn: LSN)] = [:]
    var known: [UInt32: Lineages.Table] = [:]
    for table in Lineages(stored, source: ends.from, target: ends.to).tables {
      guard let lsn = table.appliesFrom, let there = table.target else { continue }
      snapshots[table.source.oid] = (there.name, lsn)
      known[there.oid] = table
    }
    return ends.tables(excluded: excluded, snapshots: snapshots) { relation in
      guard let table = known[relation.oid] else { return (nil, nil) }
      if case .differs(let difference)? = table.verdict { return (table.source, difference) }
      return (table.source, nil)
    }
  }

  /// What the reverse stream must know: tables that both ends have under the same name. The stream carries
  /// all rows of those created on the target later.
  /// - Parameter openedLSN: where the target opened: its earlier changes came from the source.
  func streamedBack(
    source: Connection, target: Connection, since openedLSN: LSN, noting sent: SentMessages
  ) async throws -> StreamTables {
    let ends = try await StreamedEnds(from: target, to: source, noting: sent)
    let names = Set(ends.to.map(\.name))
    let streamed = ends.from.filter {
      $0.kind == .table && !$0.isUnlogged && !excluded.contains($0.name) && names.contains($0.name)
    }
    let origins = Dictionary(streamed.map { ($0.name, $0) }) { first, _ in first }
    let snapshots = Dictionary(streamed.map { ($0.oid, (name: $0.name, lsn: openedLSN)) }) { first, _ in first
    }
    return ends.tables(excluded: excluded, snapshots: snapshots) { (origins[$0.name], nil) }
  }
}
