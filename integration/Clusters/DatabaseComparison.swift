/// Compares all user tables and sequences of two databases exactly, through the servers' own text output.
///
/// Both databases must be at rest: nothing holds the two reads together.
package struct DatabaseComparison: Sendable {
  /// What is asked of the sequences of both ends.
  package enum SequenceRule: Sendable {
    /// The same last value.
    case equal

    /// The target may be ahead, as after a cutover that keeps a margin.
    case targetNotBehind
    /// Nothing.
    case ignored
  }

  /// Schemas left out besides the system's.
  private let excludedSchemas: [String]
  private let sequences: SequenceRule

  /// - Parameter excludingSchemas: besides those of the system.
  package init(excludingSchemas: [String] = ["replicate"], sequences: SequenceRule = .equal) {
    self.excludedSchemas = ["pg_catalog", "information_schema"] + excludingSchemas
    self.sequences = sequences
  }

  private struct Digest: Equatable {
    let rows: String
    let digest: String
  }

  // Whatever a database or role sets, both ends write values the same way; `search_path` because names in
  // regclass values depend on it, `row_security` because a policy must not hide a difference.
  private static let settings = [
    "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "3",
    "bytea_output": "hex", "search_path": "pg_catalog", "row_security": "off", "xmloption": "content",
    "standard_conforming_strings": "on", "lc_monetary": "C",
  ]

  /// One line a difference, by name; empty when the databases hold the same.
  package func differences(source: ConnectionString, target: ConnectionString) async throws -> [String] {
    let sourceSession = try await SQLSession(source, settings: Self.settings)
    let targetSession = try await SQLSession(target, settings: Self.settings)
    var found: [String] = []
    let sourceTables = try await digests(of: sourceSession)
    let targetTables = try await digests(of: targetSession)
    for table in Set(sourceTables.keys).union(targetTables.keys).sorted() {
      switch (sourceTables[table], targetTables[table]) {
      case (let left?, let right?) where left == right: break
      case (let left?, let right?):
        found.append("table \(table): source \(left.rows) rows, target \(right.rows) rows, other content")
      case (_?, nil): found.append("table \(table): only on the source")
      case (nil, _): found.append("table \(table): only on the target")
      }
    }
    found += try await sequenceDifferences(sourceSession, targetSession)
    await sourceSession.close()
    await targetSession.close()
    return found
  }

  private func digests(of session: SQLSession) async throws -> [String: Digest] {
    var result: [String: Digest] = [:]
    // Ordinary tables and leaf partitions hold all rows; `ONLY` keeps inheritance from counting them twice.
    for table in try await names(of: "r", in: session) {
      let row = "replicate_compared_row"
      let query = """
        SELECT count(*), md5(coalesce(string_agg(digest, '' ORDER BY digest COLLATE "C"), ''))
        FROM (SELECT md5(\(row)::text) AS digest FROM ONLY \(table) AS \(row)) AS rows
        """
      guard let found = try await session.rows(query).first, found.count == 2,
        let rows = found[0], let digest = found[1]
      else { throw HarnessError("no digest of \(table)") }
      result[table] = Digest(rows: rows, digest: digest)
    }
    return result
  }

  private func sequenceDifferences(_ source: SQLSession, _ target: SQLSession) async throws -> [String] {
    if case .ignored = sequences { return [] }
    let left = try await sequencePositions(source)
    let right = try await sequencePositions(target)
    return Set(left.keys).union(right.keys).sorted().compactMap { name in
      guard let here = left[name] else { return "sequence \(name): only on the target" }
      guard let there = right[name] else { return "sequence \(name): only on the source" }
      let agrees =
        switch sequences {
        case .equal: here == there
        case .targetNotBehind: here.increment > 0 ? there.next >= here.next : there.next <= here.next
        case .ignored: true
        }
      return agrees
        ? nil : "sequence \(name): next is \(here.next) on the source, \(there.next) on the target"
    }
  }

  private struct SequencePosition: Equatable {
    /// What the next call of nextval gives, before limits and cycles.
    let next: Int64
    let increment: Int64
  }

  private func sequencePositions(_ session: SQLSession) async throws -> [String: SequencePosition] {
    var result: [String: SequencePosition] = [:]
    for sequence in try await names(of: "S", in: session) {
      let query = """
        SELECT last_value + CASE WHEN is_called THEN seqincrement ELSE 0 END, seqincrement
        FROM \(sequence), pg_sequence WHERE seqrelid = \(quotedLiteral(sequence))::regclass
        """
      guard let found = try await session.rows(query).first, found.count == 2,
        let next = found[0].flatMap({ Int64($0) }), let increment = found[1].flatMap({ Int64($0) })
      else { throw HarnessError("no position of sequence \(sequence)") }
      result[sequence] = SequencePosition(next: next, increment: increment)
    }
    return result
  }

  /// Quoted, schema-qualified names of the user's relations of one kind (`pg_class.relkind`).
  private func names(of kind: String, in session: SQLSession) async throws -> [String] {
    let excluded = excludedSchemas.map(quotedLiteral).joined(separator: ", ")
    return try await session.rows(
      """
      SELECT format('%I.%I', nspname, relname)
      FROM pg_class JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
      WHERE relkind = '\(kind)' AND relpersistence <> 't'
        AND nspname NOT IN (\(excluded)) AND nspname !~ '^pg_(toast|temp)'
      """
    ).compactMap { $0.first ?? nil }
  }
}
