import LibPQ

/// Compares what is not rows of tables and what no stream carries.
struct ObjectComparison: Sendable {
  let source: VerifiedEnd
  let target: VerifiedEnd
  let scope: Verification.Scope

  private typealias Difference = VerificationReport.ObjectDifference

  /// Only the cutover carries it over.
  private var isExpected: Bool { scope == .streaming }

  // MARK: Sequences

  struct Sequence: Sendable, Equatable {
    var last: Int64
    var isCalled: Bool

    /// What it has given, or will give first.
    var words: String { isCalled ? "has given \(last)" : "begins with \(last)" }
  }

  func sequences() async throws -> [VerificationReport.ObjectDifference] {
    async let here = Self.sequences(source.first)
    async let there = Self.sequences(target.first)
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

  private static func sequences(_ connection: Connection) async throws -> [RelationName: Sequence] {
    let action = "reading the \(connection.end)'s sequences"
    let names = try await connection.query(
      """
      SELECT n.nspname, c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
        AND n.nspname NOT IN ('information_schema', 'replicate')
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

  // MARK: Large objects

  /// By their content and owner.
  func largeObjects() async throws -> [VerificationReport.ObjectDifference] {
    async let here = largeObjects(source)
    async let there = largeObjects(target)
    let (left, right) = try await (here, there)
    return Set(left.keys).union(right.keys).sorted().compactMap { oid in
      guard left[oid] != right[oid] else { return nil }
      let what =
        switch (left[oid], right[oid]) {
        case (_, nil): "is missing on the target"
        case (nil, _): "is missing on the source"
        case (let ours?, let theirs?):
          ours.digest == theirs.digest
            ? "belongs to \(SQL.identifier(ours.owner)) on the source and \(SQL.identifier(theirs.owner)) on "
              + "the target"
            : "has another content on the target"
        }
      return Difference(
        kind: "large object", object: "\(oid)", words: "large object \(oid) \(what)", isExpected: isExpected)
    }
  }

  private struct ObjectDigest: Sendable, Equatable {
    var owner: String
    /// Size and MD5 sums of its parts.
    var digest: String
  }

  private func largeObjects(_ end: VerifiedEnd) async throws -> [UInt32: ObjectDigest] {
    let oids = try await end.first.query(
      "SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid",
      doing: "listing the large objects of the \(end.side.end)"
    ).map { try $0.integer("oid", as: UInt32.self) }
    let found = LargeObjectLedger()
    try await end.perform(oids.batches(of: 200)) { batch, session in
      let list = batch.map(String.init).joined(separator: ",")
      // Each is closed before the next is opened: a transaction has room for few.
      let rows = try await session.query(
        """
        SELECT o.oid, o.owner, o.size::text || coalesce((SELECT pg_catalog.string_agg(
            pg_catalog.md5(pg_catalog.lo_get(o.oid, p.at, 1048576)), '' ORDER BY p.at)
          FROM pg_catalog.generate_series(0, o.size - 1, 1048576) AS p (at)), '') AS digest
        FROM (SELECT c.oid, c.owner, c.size FROM (
          SELECT b.oid, b.owner, b.fd, pg_catalog.lo_lseek64(b.fd, 0, 2) AS size FROM (
            SELECT m.oid, r.rolname AS owner, pg_catalog.lo_open(m.oid, 262144) AS fd
            FROM pg_catalog.pg_largeobject_metadata m JOIN pg_catalog.pg_roles r ON r.oid = m.lomowner
            WHERE m.oid = ANY ('{\(list)}'::oid[]) OFFSET 0) AS b OFFSET 0) AS c
          WHERE pg_catalog.lo_close(c.fd) = 0 OFFSET 0) AS o
        """, doing: "comparing large objects")
      var part: [UInt32: ObjectDigest] = [:]
      for row in rows {
        part[try row.integer("oid", as: UInt32.self)] = ObjectDigest(
          owner: try row.text("owner"), digest: try row.text("digest"))
      }
      await found.add(part)
    }
    return await found.all
  }

  private actor LargeObjectLedger {
    private(set) var all: [UInt32: ObjectDigest] = [:]

    func add(_ part: [UInt32: ObjectDigest]) { all.merge(part) { $1 } }
  }
}

extension Comparison {
  /// Sequences, large objects, tables of extensions and materialized views.
  func objects() async throws -> [VerificationReport.ObjectDifference] {
    let objects = ObjectComparison(source: source, target: target, scope: options.scope)
    return try await objects.sequences() + objects.largeObjects() + extensionTables() + materializedViews()
  }

  /// The rows in them that are the user's; no publication has these tables.
  private func extensionTables() async throws -> [VerificationReport.ObjectDifference] {
    let tables = sourceShapes.values.filter {
      let condition = $0.extensionCondition?.uppercased()
      return condition == "" || condition?.hasPrefix("WHERE") == true
    }
    .filter { !options.excluded.contains($0.name) }.sorted { $0.name < $1.name }
    .compactMap { shape in
      targetShapes[shape.name].map { ComparedTable(source: shape, target: $0, agreement) }
    }
    let sums = try await scan.sums(of: tables, onlyCounts: false, isCounted: false)
    return zip(tables, sums).filter { !$1.areEqual }.map { table, sums in
      VerificationReport.ObjectDifference(
        kind: "extension table", object: table.name.words,
        words: "table \(table.name.words) of an extension has \(sums.source.rows) rows of the user's on the "
          + "source and \(sums.target.rows) on the target, or others",
        isExpected: options.scope == .streaming)
    }
  }

  /// The target has computed its own from its own rows, while the source's are as old as their last REFRESH:
  /// what they hold may differ.
  private func materializedViews() async throws -> [VerificationReport.ObjectDifference] {
    var differences: [VerificationReport.ObjectDifference] = []
    func note(_ name: RelationName, _ words: String, isExpected: Bool = false) {
      differences.append(
        VerificationReport.ObjectDifference(
          kind: "materialized view", object: name.words, words: "materialized view \(name.words) \(words)",
          isExpected: isExpected))
    }
    var tables: [ComparedTable] = []
    for shape in sourceShapes.values.filter(\.isMaterializedView).sorted(by: { $0.name < $1.name }) {
      guard let other = targetShapes[shape.name], other.isMaterializedView else {
        note(shape.name, "is missing on the target")
        continue
      }
      switch (shape.isPopulated, other.isPopulated) {
      case (true, true): tables.append(ComparedTable(source: shape, target: other, agreement))
      case (true, false): note(shape.name, "has no data on the target")
      // Nobody lacks what nobody could read.
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
          ? "holds other rows on the target, which has computed its own"
          : "has \(rows.0) rows on the source and \(rows.1) on the target, which has computed its own",
        isExpected: true)
    }
    return differences
  }
}

extension RelationName {
  /// For people: quoted only where nobody could read it otherwise.
  var words: String { "\(Self.words(schema)).\(Self.words(name))" }

  private static func words(_ name: String) -> String {
    let isPlain = name.utf8.allSatisfy { byte in
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "_")
    }
    return isPlain ? name : SQL.identifier(name)
  }
}
