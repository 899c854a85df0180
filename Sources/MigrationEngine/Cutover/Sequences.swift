import LibPQ

/// Copies the state of every sequence, those of serial and identity columns included: the stream does not
/// carry them (manual, section 31.6).
enum Sequences {
  /// - Parameter excluded: tables that stay behind, with the sequences that extensions have for them.
  /// - Returns: how many were set.
  /// - Throws: also when the target lacks a sequence.
  @discardableResult
  static func copy(
    from source: Connection, to target: Connection, without excluded: Set<RelationName> = []
  ) async throws -> Int {
    let names = try await names(on: source, excluded)
    try await source.query(
      Session.readingTablesOnly(isLocal: false), doing: "reading the \(source.end)'s sequences",
      within: .seconds(30))
    // One statement for all would grow with the catalog.
    for piece in names.batches(of: 500) {
      try await set(try await read(piece, on: source), on: target)
    }
    return names.count
  }

  private struct Value: Sendable {
    var name: String
    var last: Int64
    var isCalled: Bool
  }

  private static func names(
    on source: Connection, _ excluded: Set<RelationName>
  ) async throws -> [RelationName] {
    let rows = try await source.query(
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
      """, doing: "listing the \(source.end)'s sequences", within: .seconds(30), isPrepared: true)
    return try rows.map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) }
  }

  /// Read from the sequences themselves: `pg_sequences` does not show where one that was never called begins.
  private static func read(_ names: ArraySlice<RelationName>, on source: Connection) async throws -> [Value] {
    let queries = names.map { name in
      "SELECT \(SQL.literal(name.description)) AS name, last_value, is_called FROM \(name)"
    }
    let rows = try await source.query(
      queries.joined(separator: " UNION ALL "), doing: "reading the \(source.end)'s sequences",
      within: .seconds(30), isPrepared: true)
    return try rows.map { row in
      Value(
        name: try row.text("name"), last: try row.integer("last_value", as: Int64.self),
        isCalled: try row.bool("is_called"))
    }
  }

  /// The last write after the fence opens the target, and makes this durable, too.
  private static func set(_ values: [Value], on target: Connection) async throws {
    do {
      try await setAll(values, on: target)
    } catch let error as PostgresError where error.isRefusalOfContent {
      // One at a time, to find out which fails.
      for value in values {
        do {
          try await setAll([value], on: target)
        } catch let error as PostgresError where error.isRefusalOfContent {
          throw error.during("sequence \(value.name)")
        }
      }
      throw error
    }
  }

  private static func setAll(_ values: [Value], on target: Connection) async throws {
    guard !values.isEmpty else { return }
    let list = values.map { "(\(SQL.literal($0.name)), bigint '\($0.last)', \($0.isCalled))" }
    try await target.query(
      """
      SET LOCAL synchronous_commit = off;
      SELECT pg_catalog.count(pg_catalog.setval(v.name::pg_catalog.regclass, v.last, v.is_called))
      FROM (VALUES \(list.joined(separator: ", "))) AS v (name, last, is_called)
      """, doing: "setting the \(target.end)'s sequences", within: .seconds(30))
  }
}
