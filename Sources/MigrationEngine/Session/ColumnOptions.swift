import LibPQ

/// The options of columns that users may give (manual, ALTER TABLE … SET ( attribute_option )). Since
/// November 2026 servers keep one of their own beside them, `pg_attver`, which a pg_dump from before writes
/// out and a server from before refuses.
enum ColumnOptions {
  private static let ofUsers: Set<Substring> = ["n_distinct", "n_distinct_inherited"]

  /// What takes the place of a statement that sets nothing of users': it has no effect.
  private static let nothing = " RESET (n_distinct);"

  /// Whether tables have options that are the server's own.
  static func areServersOwn(on end: Connection, doing action: String) async throws -> Bool {
    let rows = try await end.query(
      """
      SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      WHERE a.attoptions IS NOT NULL AND c.relkind IN ('r', 'p', 'm', 'f') AND a.attrelid >= 16384
        AND EXISTS (SELECT FROM pg_catalog.unnest(a.attoptions) AS o (option)
          WHERE pg_catalog.split_part(o.option, '=', 1) <> ALL ($1::text[]))
      LIMIT 1
      """, [SQL.array(ofUsers.map(String.init).sorted())], doing: action, within: .seconds(60))
    return !rows.isEmpty
  }

  /// - Parameter line: of what pg_dump writes: `ALTER TABLE ONLY public.t ALTER COLUMN id SET
  ///   (n_distinct=5);`.
  /// - Returns: the line without options that are the server's own.
  static func ofUsers(in line: Substring) -> Substring {
    guard line.hasSuffix(");"), let set = line.ranges(of: " SET (").last,
      // A name with a line break in it leaves the beginning on an earlier line.
      line.contains(" ALTER COLUMN ") || line.contains("pg_attver=")
    else { return line }
    let options = line[set.upperBound...].dropLast(2).split(separator: ", ")
    let kept = options.filter { ofUsers.contains($0.prefix { $0 != "=" }) }
    guard !options.isEmpty, kept.count < options.count else { return line }
    let beginning = line[..<set.lowerBound]
    return kept.isEmpty ? beginning + nothing : beginning + " SET (\(kept.joined(separator: ", ")));"
  }

  /// Whether a statement sets nothing: for comparing schemas.
  static func isNothing(_ statement: Substring) -> Bool {
    statement.hasSuffix(nothing) && statement.contains(" ALTER COLUMN ")
  }
}
