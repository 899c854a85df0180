import Foundation
import LibPQ
import LogicalReplication

/// Moves the schema with pg_dump and pg_restore, which know every kind of object (manual, "pg_dump",
/// "pg_restore").
struct SchemaTransfer: Sendable {
  let target: ConnectionString
  let publication: String
  /// How many indexes are built at the same time.
  let jobs: Int

  /// Which refusals of the target let the rest of the schema continue.
  enum Leaving: Sendable {
    /// Refusals because of rows. Anything else may have been dropped or renamed since the dump.
    case data
    case all
  }

  /// What became of a section.
  struct Restored: Sendable {
    /// What the target refused; it is tried again.
    var refused: [RefusedEntry] = []
    /// What only the owners of extensions may do there, in words.
    var leftOut: [String] = []
  }

  /// Restores one section.
  /// - Parameters:
  ///   - before: what the target had before the migration, according to `TargetData.present`, where an
  ///     earlier try may have left objects, which are dropped first. Nil without an earlier try.
  /// - Returns: what the target refused, apart from rows; the rest is there.
  func restore(
    _ section: SchemaSection, from archive: URL, replacingAllBut before: [String]?,
    source: Connection, target: Connection, leaving: Leaving = .all
  ) async throws -> Restored {
    let list = try await PostgresTool(name: "pg_restore").run(
      ["--list", "--section=\(section.dumpSection)", archive.path], on: self.target,
      doing: action(section))
    let dependencies = try await dependencies(in: archive, section)
    var entries = SchemaEntry.entries(
      of: section, in: list, excluding: try await ownObjects(on: source), dependencies)
    if let before {
      switch section {
      case .preData: try await TargetData.drop(on: target, keeping: before)
      // pg_restore's own --clean fails on indexes of partitions, which are dropped with their parent's.
      case .indexes: try await Self.dropIndexes(on: target)
      case .constraints: break
      }
    }
    if section == .preData {
      entries.removeAll(where: \.isPublicSchema)
      return try await restorePreData(entries, in: list, from: archive, dependencies, source, target)
    }
    let isCleaning = before != nil && section == .constraints
    let refused = try await make(
      entries, from: archive, isCleaning, source, dependencies, isOrdered: section == .constraints
    ) { entries in
      try await restoreWithTool(entries, section, from: archive, isCleaning)
    }
    if leaving == .data, let other = Self.notOfData(refused, dependencies) { throw other.refusal }
    return Restored(refused: refused)
  }

  private func restorePreData(
    _ all: [SchemaEntry], in list: String, from archive: URL, _ dependencies: SchemaDependencies,
    _ source: Connection, _ target: Connection
  ) async throws -> Restored {
    var entries = all
    let foreign = try await ForeignParts.take(from: &entries, of: list, dependencies, target: target)
    let pinned = try await PinnedExtension.read(source: source, target: target)
    if !pinned.isEmpty {
      // pg_restore makes an extension only where there is none; what it needs are the schemas.
      try await restoreTables(entries.filter(\.isSchema), from: archive, source)
      for pinned in pinned { try await pinned.create(on: target) }
      entries.removeAll(where: \.isSchema)
    }
    var restored = Restored()
    do {
      try await restoreTables(entries, from: archive, source)
    } catch let error as MigrationError {
      restored.refused = try await restoreWithoutForeign(
        entries, from: archive, dependencies, source, or: error)
    }
    restored.leftOut = try await foreign.restore(
      with: SchemaScripts(target: self.target, archive: archive, jobs: 1, isOrdered: true), source: source,
      target: target)
    return restored
  }

  /// One by one: objects of foreign servers hold no rows of ours, and are skipped with what needs them.
  /// - Throws: `error` when something else is refused.
  private func restoreWithoutForeign(
    _ entries: [SchemaEntry], from archive: URL, _ dependencies: SchemaDependencies, _ source: Connection,
    or error: MigrationError
  ) async throws -> [RefusedEntry] {
    guard entries.contains(where: \.isForeign) else { throw error }
    let scripts = SchemaScripts(target: target, archive: archive, jobs: 1, isOrdered: true)
    let refused = try await scripts.make(entries, UserExpressions(), dependencies, source: source)
    var missing: Set<Int> = []
    for one in refused {
      let needs = dependencies.needs[one.entry.dumpID, default: []]
      guard one.entry.isForeign || needs.contains(where: missing.contains) else { throw error }
      missing.insert(one.entry.dumpID)
    }
    return refused
  }

  /// Owner, comment and privileges of schema public, after everything created in it. Each may be refused to a
  /// role that does not own it there; the target's own otherwise stay.
  func restorePublicSchema(from archive: URL, source: Connection) async throws -> [RefusedEntry] {
    let list = try await PostgresTool(name: "pg_restore").run(
      ["--list", archive.path], on: target, doing: action(.constraints))
    return try await SchemaScripts(
      target: target, archive: archive, jobs: 1, isOrdered: true, firesNothing: true
    ).make(
      list.split(separator: "\n").compactMap { SchemaEntry($0) }.filter(\.isPublicSchema), UserExpressions(),
      SchemaDependencies(of: ""), source: source)
  }

  /// One that is refused neither because of rows nor because of another that is.
  private static func notOfData(
    _ refused: [RefusedEntry], _ dependencies: SchemaDependencies
  ) -> RefusedEntry? {
    var missing: Set<Int> = []
    for one in refused {
      let needs = dependencies.needs[one.entry.dumpID, default: []]
      guard one.error.isRefusalOfData || needs.contains(where: missing.contains) else { return one }
      missing.insert(one.entry.dumpID)
    }
    return nil
  }

  private func dependencies(in archive: URL, _ section: SchemaSection) async throws -> SchemaDependencies {
    SchemaDependencies(
      of: try await PostgresTool(name: "pg_restore").run(
        ["--list", "--verbose", archive.path], on: target, doing: action(section)))
  }

  /// What calls users' functions is created separately, before a part of it is attached to its parent's.
  private func make(
    _ entries: [SchemaEntry], from archive: URL, _ isCleaning: Bool, _ source: Connection,
    _ dependencies: SchemaDependencies, isOrdered: Bool, _ restore: ([SchemaEntry]) async throws -> Void
  ) async throws -> [RefusedEntry] {
    let evaluated = try await UserExpressions.read(from: source)
    /// All at once, or one by one when the target refuses one of them.
    func restoreOrLeave(_ entries: [SchemaEntry]) async throws -> [RefusedEntry] {
      do {
        try await restore(entries)
        return []
      } catch is MigrationError {
        return try await SchemaScripts(
          target: target, archive: archive, jobs: jobs, isOrdered: isOrdered
        ).make(entries, UserExpressions(), dependencies, source: source)
      }
    }
    let scripts = entries.filter { evaluated.owners[$0.id] != nil }
    guard !scripts.isEmpty else { return try await restoreOrLeave(entries) }
    // Comments on what is created separately come with it.
    let apart = dependencies.closure(of: Set(scripts.map(\.dumpID)), in: entries)
    let others = entries.filter { evaluated.owners[$0.id] == nil && !apart.contains($0.dumpID) }
    var refused = try await restoreOrLeave(others.filter { !$0.isAttachment })
    refused += try await SchemaScripts(target: target, archive: archive, jobs: jobs, isCleaning: isCleaning)
      .make(scripts, evaluated, dependencies, source: source)
    let late = entries.filter { evaluated.owners[$0.id] == nil && apart.contains($0.dumpID) }
    if !late.isEmpty { refused += try await restoreOrLeave(late.filter { !$0.isAttachment }) }
    refused += try await restoreOrLeave(entries.filter { evaluated.owners[$0.id] == nil && $0.isAttachment })
    return refused
  }

  /// Creates what was refused before, one by one; each locks its table, which the stream waits for.
  /// - Parameter isWanted: whether an entry is one of those that were refused.
  /// - Returns: the entries that were found, and which of them are refused again.
  func restoreRefused(
    from archive: URL, source: Connection, _ isWanted: (SchemaEntry) -> Bool
  ) async throws -> (found: [SchemaEntry], refused: [RefusedEntry]) {
    let list = try await PostgresTool(name: "pg_restore").run(
      ["--list", archive.path], on: target, doing: action(.constraints))
    let entries = list.split(separator: "\n").compactMap { SchemaEntry($0) }.filter(isWanted)
    let refused = try await SchemaScripts(
      target: target, archive: archive, jobs: 1, isOrdered: true, lockTimeout: .seconds(2)
    ).make(
      entries, try await UserExpressions.read(from: source), SchemaDependencies(of: ""), source: source)
    return (entries, refused)
  }

  /// The parts in which definitions of later tables are restored. A partition is attached after its indexes
  /// are built, since its parent on the target would create other ones.
  enum NewTablePart: Sendable, CaseIterable {
    case tables
    case indexes
    case attachments
    case constraints

    var section: SchemaSection {
      switch self {
      case .tables: .preData
      case .indexes: .indexes
      case .attachments, .constraints: .constraints
      }
    }

    func contains(_ entry: SchemaEntry) -> Bool {
      switch self {
      case .tables: !entry.isAttachment
      case .indexes: entry.isIndex && !entry.isAttachment
      case .attachments: entry.isAttachment
      case .constraints: !entry.isIndex && !entry.isAttachment
      }
    }
  }

  /// - Parameter archive: of the new tables alone.
  /// - Returns: what the target refused; the rest is there.
  func restore(
    _ part: NewTablePart, from archive: URL, source: Connection
  ) async throws -> [RefusedEntry] {
    let sections = part == .attachments ? ["pre-data", "post-data"] : [part.section.dumpSection]
    let list = try await PostgresTool(name: "pg_restore").run(
      ["--list"] + sections.map { "--section=\($0)" } + [archive.path], on: target,
      doing: action(part.section))
    let own = try await ownObjects(on: source)
    let entries = list.split(separator: "\n").compactMap { SchemaEntry($0) }
      .filter { part.contains($0) && !own.contains($0.id) }
    func restore(_ entries: [SchemaEntry]) async throws {
      try await restoreWithTool(
        entries, named: "\(part)", from: archive, isCleaning: part == .constraints, part.section)
    }
    if part == .tables {
      try await restoreTables(entries, from: archive, source)
      return []
    }
    return try await make(
      entries, from: archive, part == .constraints, source, try await dependencies(in: archive, part.section),
      isOrdered: part != .indexes, restore)
  }

  /// Whether partitions are attached by entries of their own.
  func attachesTables(in archive: URL) async throws -> Bool {
    let list = try await PostgresTool(name: "pg_restore").run(
      ["--list", "--section=pre-data", archive.path], on: target, doing: action(.preData))
    return list.split(separator: "\n").compactMap { SchemaEntry($0) }
      .contains { $0.description.hasPrefix("TABLE ATTACH ") }
  }

  private func action(_ section: SchemaSection) -> String {
    "restoring the schema's \(section.rawValue) on the target"
  }

  /// Tables and what they need, all or nothing.
  private func restoreTables(
    _ entries: [SchemaEntry], from archive: URL, _ source: Connection
  ) async throws {
    let action = action(.preData)
    guard try await ColumnOptions.areServersOwn(on: source, doing: action) else {
      return try await restoreWithTool(entries, .preData, from: archive)
    }
    // pg_restore would give the target options that are the source server's own.
    let scripts = try await EntryScripts.read(entries, from: archive, on: target, isCleaning: false)
    let session = try await Session.open(target, end: "target", purpose: "restore")
    try await closing(session) {
      try await Session.noticeLostClient(of: session)
      do {
        try await session.transaction(doing: action) { session in
          for entry in entries {
            guard let script = scripts[entry.dumpID] else { continue }
            try await session.query(script.sql, doing: "making \(script.name) on the target")
          }
        }
      } catch let error as PostgresError where !error.isConnectionLoss {
        var refusal = MigrationError(.failed, doing: error.action, reason: error.words)
        refusal.mayPass = error.mayPass
        throw refusal
      }
    }
  }

  /// - Parameter isCleaning: drops each entry's object before it is made.
  private func restoreWithTool(
    _ entries: [SchemaEntry], _ section: SchemaSection, from archive: URL, _ isCleaning: Bool = false
  ) async throws {
    try await restoreWithTool(
      entries, named: section.rawValue, from: archive, isCleaning: isCleaning, section)
  }

  private func restoreWithTool(
    _ entries: [SchemaEntry], named name: String, from archive: URL, isCleaning: Bool,
    _ section: SchemaSection
  ) async throws {
    guard !entries.isEmpty else { return }
    let listFile = archive.deletingLastPathComponent().appending(path: "\(name).list")
    try Data((entries.map(\.line).joined(separator: "\n") + "\n").utf8).write(to: listFile)
    // The list alone decides: with --section pg_restore drops what it assigns to another section, such as a
    // comment or grant at the start of a list.
    var arguments = ["--use-list=\(listFile.path)", "--exit-on-error"]
    switch section {
    case .preData: arguments.append("--single-transaction")
    case .indexes: arguments.append("--jobs=\(jobs)")
    case .constraints: break
    }
    if isCleaning { arguments += ["--clean", "--if-exists"] }
    try await PostgresTool(name: "pg_restore").run(
      arguments + [try await target.argument(end: "target", purpose: "restore"), archive.path], on: target,
      doing: action(section))
  }

  /// The publication of this migration and its members: the target must not inherit them.
  private func ownObjects(on source: Connection) async throws -> Set<SchemaEntry.CatalogID> {
    let rows = try await source.query(
      """
      SELECT 'pg_catalog.pg_publication'::pg_catalog.regclass::oid AS class, p.oid
      FROM pg_catalog.pg_publication p WHERE p.pubname = $1
      UNION ALL
      SELECT 'pg_catalog.pg_publication_rel'::pg_catalog.regclass::oid, r.oid
      FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
          WHERE p.pubname = $1
      """, [publication], doing: "looking up publication \(quotedIdentifier(publication))")
    return Set(
      try rows.map {
        SchemaEntry.CatalogID(
          classOID: try $0.integer("class", as: UInt32.self), oid: try $0.integer("oid", as: UInt32.self))
      })
  }

  /// - Parameter tables: all of the user's when nil.
  static func dropIndexes(on target: Connection, of tables: [RelationName]? = nil) async throws {
    let ours = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    let chosen =
      tables.map { tables in
        let names = tables.map { "(\(SQL.literal($0.schema)), \(SQL.literal($0.name)))" }
        return "(n.nspname, c.relname) IN (\(names.joined(separator: ", ")))"
      } ?? "true"
    let isOurs = "\(Catalog.isUserTable) AND \(chosen)"
    let drops = try await target.query(
      """
      SELECT pg_catalog.format('ALTER TABLE %I.%I DROP CONSTRAINT IF EXISTS %I CASCADE',
          n.nspname, c.relname, k.conname)
        AS statement \(ours) JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid
      WHERE k.contype IN ('p', 'u', 'x') AND k.conparentid = 0 AND \(isOurs)
      UNION ALL
      SELECT pg_catalog.format('DROP INDEX IF EXISTS %I.%I CASCADE', n.nspname, x.relname) \(ours)
        JOIN pg_catalog.pg_index i ON i.indrelid = c.oid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
      WHERE NOT x.relispartition AND \(isOurs)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = x.oid)
      UNION ALL
      SELECT pg_catalog.format('DROP STATISTICS IF EXISTS %I.%I', s.nspname, e.stxname) \(ours)
        JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = c.oid
        JOIN pg_catalog.pg_namespace s ON s.oid = e.stxnamespace
      WHERE \(isOurs)
      """, doing: "listing the indexes of an earlier try")
    for row in drops {
      try await target.query(try row.text("statement"), doing: "dropping an index of an earlier try")
    }
  }
}
