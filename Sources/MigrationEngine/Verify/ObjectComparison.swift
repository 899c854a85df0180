import LibPQ

/// Compares what is not in rows of tables and not carried by the stream.
struct ObjectComparison: Sendable {
  let source: VerifiedEnd
  let target: VerifiedEnd
  let scope: Verification.Scope
  let excluded: Set<RelationName>

  private typealias Difference = VerificationReport.ObjectDifference

  /// Only the cutover carries it over, or values may have been drawn since it did.
  private var isExpected: Bool { scope != .settled }

  // MARK: Sequences

  struct Sequence: Sendable, Equatable {
    var last: Int64
    var isCalled: Bool

    /// Its last value, or the first that it will give.
    var words: String { isCalled ? "has given \(last)" : "begins with \(last)" }
  }

  func sequences() async throws -> [VerificationReport.ObjectDifference] {
    async let here = Self.sequences(source.first, excluded)
    async let there = Self.sequences(target.first, excluded)
    let (left, right) = try await (here, there)
    return Set(left.keys).union(right.keys).sorted().compactMap { name in
      func difference(_ words: String, isExpected: Bool = false) -> VerificationReport.ObjectDifference {
        Difference(
          kind: "sequence", object: name.words, words: "sequence \(name.words) \(words)",
          isExpected: isExpected)
      }
      guard let theirs = right[name] else { return difference("is missing on the target") }
      guard let ours = left[name] else { return difference("is missing on the source") }
      guard ours != theirs else { return nil }
      return difference(
        "\(ours.words) on the source and \(theirs.words) on the target", isExpected: isExpected)
    }
  }

  private static func sequences(
    _ connection: Connection, _ excluded: Set<RelationName>
  ) async throws -> [RelationName: Sequence] {
    let action = "reading the \(connection.end)'s sequences"
    let names = try await connection.query(
      """
      SELECT n.nspname, c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
        AND n.nspname NOT IN ('information_schema', 'replicate')
        AND NOT (\(ConfigurationTable.isSequence(of: excluded)))
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
          WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid
            AND e.deptype = 'e'
            -- An extension's own, whose state is the user's.
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension x
              WHERE x.oid = e.refobjid AND c.oid = ANY (x.extconfig)))
      """, doing: action, within: .seconds(60)
    ).map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) }
    var sequences: [RelationName: Sequence] = [:]
    for batch in names.batches(of: 500) {
      let queries = batch.enumerated().map { "SELECT \($0) AS number, last_value, is_called FROM \($1)" }
      let rows = try await connection.query(
        queries.joined(separator: " UNION ALL "), doing: action, within: .seconds(60))
      for row in rows {
        sequences[batch[batch.startIndex + (try row.integer("number"))]] = Sequence(
          last: try row.integer("last_value", as: Int64.self), isCalled: try row.bool("is_called"))
      }
    }
    return sequences
  }
}

extension Comparison {
  /// The inventory of large objects; nil where they are not compared.
  func largeObjects(
    _ report: inout VerificationReport
  ) async throws -> LargeObjectComparison.Inventory? {
    guard options.comparesObjects else { return nil }
    guard options.comparesLargeObjects else {
      report.notes.append("large objects are not compared: they stay behind (--without-large-objects)")
      return nil
    }
    let inventory = try await largeObjectComparison.inventory()
    report.largeObjectBytes = inventory.bytes
    return inventory
  }

  private var largeObjectComparison: LargeObjectComparison {
    LargeObjectComparison(
      source: source, target: target, rateLimit: scan.rateLimit, maxBytesPerSecond: scan.maxBytesPerSecond,
      meter: scan.meter)
  }

  /// Sequences, large objects, tables of extensions and materialized views.
  func compareObjects(
    _ inventory: LargeObjectComparison.Inventory?, _ report: inout VerificationReport
  ) async throws {
    let objects = ObjectComparison(
      source: source, target: target, scope: options.scope, excluded: options.excluded)
    report.objects += try await objects.sequences()
    if let inventory {
      report.objects += LargeObjectComparison.differences(
        try await largeObjectComparison.digests(inventory), isExpected: options.scope == .streaming)
    }
    if !options.excluded.isEmpty {
      let names = options.excluded.sorted().map(\.words).joined(separator: ", ")
      report.notes.append("not compared, because they stay behind (--exclude-table): \(names)")
    }
    try await compareExtensionTables(&report)
    try await compareMaterializedViews(&report)
  }

  /// Whether both ends let our roles read it; if not, that is reported.
  private func mayRead(
    _ shape: TableShape, _ other: TableShape, _ kind: String, _ report: inout VerificationReport
  ) -> Bool {
    let closed = [("source", shape), ("target", other)].filter { !$1.mayRead }.map(\.0)
    guard !closed.isEmpty else { return true }
    report.tables.append(
      VerificationReport.Table(
        name: shape.name, verdict: .notCompared, method: .none,
        reason: "\(kind); the role lacks SELECT on it on the \(closed.joined(separator: " and the "))"))
    return false
  }

  /// The user's rows in them; no publication has these tables.
  private func compareExtensionTables(_ report: inout VerificationReport) async throws {
    let tables: [ComparedTable] = ends.source.values.filter {
      let condition = $0.extensionCondition?.uppercased()
      return condition == "" || condition?.hasPrefix("WHERE") == true
    }
    .filter { !options.excluded.contains($0.name) }.sorted { $0.name < $1.name }
    .compactMap { shape in
      guard let other = ends.target[shape.name],
        mayRead(shape, other, "a table of an extension", &report)
      else { return nil }
      return ComparedTable(
        source: shape.withoutColumnsOfPlace, target: other.withoutColumnsOfPlace, ends.agreement)
    }
    let sums = try await scan.sums(of: tables, onlyCounts: false, isCounted: false)
    report.objects += zip(tables, sums).filter { !$1.areEqual }.map { table, sums in
      VerificationReport.ObjectDifference(
        kind: "extension table", object: table.name.words,
        words: "table \(table.name.words) of an extension has \(sums.source.rows) rows of the user's on the "
          + "source and \(sums.target.rows) on the target, or others",
        isExpected: options.scope != .settled)
    }
  }

  /// The target has computed its own from its own rows, while the source's are as old as their last REFRESH:
  /// contents may differ.
  private func compareMaterializedViews(_ report: inout VerificationReport) async throws {
    var differences: [VerificationReport.ObjectDifference] = []
    func note(_ name: RelationName, _ words: String, isExpected: Bool = false) {
      differences.append(
        VerificationReport.ObjectDifference(
          kind: "materialized view", object: name.words, words: "materialized view \(name.words) \(words)",
          isExpected: isExpected))
    }
    var tables: [ComparedTable] = []
    for shape in ends.source.values.filter(\.isMaterializedView).sorted(by: { $0.name < $1.name }) {
      guard let other = ends.target[shape.name], other.isMaterializedView else {
        note(shape.name, "is missing on the target")
        continue
      }
      switch (shape.isPopulated, other.isPopulated) {
      // Pointless during a write pause.
      case (true, true) where options.scope == .fenced: break
      case (true, true):
        if mayRead(shape, other, "a materialized view", &report) {
          tables.append(ComparedTable(source: shape, target: other, ends.agreement))
        }
      case (true, false): note(shape.name, "has no data on the target")
      // What nobody could read is not missing.
      case (false, true): note(shape.name, "has no data on the source", isExpected: true)
      case (false, false): break
      }
    }
    for (table, sums) in zip(tables, try await scan.sums(of: tables, onlyCounts: false, isCounted: false))
    where !sums.areEqual {
      let rows = (sums.source.rows, sums.target.rows)
      note(
        table.name,
        rows.0 == rows.1
          ? "has other rows on the target, which has computed its own"
          : "has \(rows.0) rows on the source and \(rows.1) on the target, which has computed its own",
        isExpected: true)
    }
    report.objects += differences
  }
}

extension RelationName {
  /// For people.
  var words: String { "\(SQL.words(schema)).\(SQL.words(name))" }
}

extension VerificationReport {
  /// Large objects that differ where they should not.
  var differentLargeObjects: [UInt32] {
    objects.filter { $0.kind == LargeObjectComparison.kind && !$0.isExpected }.compactMap {
      UInt32($0.object)
    }
  }

  /// Marks their differences as expected.
  mutating func forgive(largeObjects: Set<UInt32>, because: String) {
    for index in objects.indices where objects[index].kind == LargeObjectComparison.kind {
      guard let oid = UInt32(objects[index].object), largeObjects.contains(oid) else { continue }
      objects[index].isExpected = true
      objects[index].words += ": \(because)"
    }
  }
}
