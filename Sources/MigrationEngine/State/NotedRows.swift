import LibPQ

/// Rows kept in the comment of a function of schema `replicate`, which returns them. What we record on an end
/// with other subscribers must be in no publication, not even FOR ALL TABLES, whose subscriber would fail on
/// a table that it lacks: catalogs are in none (manual, section 31.1). A comment is as durable and
/// transactional as a row. Not a view: our sessions read only the system's.
struct NotedRows: Sendable {
  /// The function's name in schema `replicate`.
  let name: String
  /// As in a table definition: `state text, token text`.
  let columns: String

  static let fence = NotedRows(name: "fence", columns: "state text, token text")
  static let identity = NotedRows(name: "identity", columns: "relation oid, previous text")
  /// Columns that were GENERATED ALWAYS before reverse replication.
  static let relaxed = NotedRows(name: "relaxed", columns: "relation oid, name text")
  static let held = NotedRows(name: "held", columns: "catalog text, oid oid, enabled \"char\"")
  /// The progress of reverse replication, on the source.
  static let progress = NotedRows(
    name: "progress",
    columns: """
      applied_lsn pg_lsn, anchor_lsn pg_lsn, anchor_xid bigint, anchor_time bigint, timeline bigint,
      transactions bigint, changes bigint, marker text
      """)
  static let confirmation = NotedRows(name: "confirmation", columns: "confirmed_lsn pg_lsn")

  /// What follows FROM.
  var relation: String { "replicate.\(name)()" }

  /// Creates the function, without rows, where it is missing.
  var creation: String {
    """
    CREATE OR REPLACE FUNCTION replicate.note(kept text, noted jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
      BEGIN
        EXECUTE pg_catalog.format('COMMENT ON FUNCTION replicate.%I() IS %L', kept, noted::text);
        RETURN true;
      END $$;
    CREATE OR REPLACE FUNCTION \(relation) RETURNS TABLE (\(columns)) LANGUAGE sql STABLE AS $$
      SELECT r.* FROM pg_catalog.jsonb_to_recordset(COALESCE(pg_catalog.obj_description(
        pg_catalog.to_regprocedure('\(relation)'), 'pg_proc')::pg_catalog.jsonb, '[]')) AS r (\(columns)) $$
    """
  }

  /// Serialises changes: call it before reading rows to change them, in the same transaction.
  var lock: String {
    "SELECT pg_catalog.pg_advisory_xact_lock(\(Self.lockClass), pg_catalog.hashtext('\(relation)'))"
  }
  private static let lockClass = 0x7265_706C

  /// An expression, always true, that replaces all rows by the array `rows`, an expression of type `jsonb`.
  func replacement(by rows: String) -> String { "replicate.note('\(name)', \(rows))" }

  /// All rows for which `condition` is true of `r`, as an expression for `replacement`.
  func rows(where condition: String) -> String {
    """
    (SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(r)), '[]') FROM \(relation) r
      WHERE \(condition))
    """
  }

  /// Adds rows, an expression of type `jsonb`, in place of those for which `condition` is true.
  func addition(of rows: String, replacing condition: String) -> String {
    "\(lock);\nSELECT \(replacement(by: "\(self.rows(where: "NOT (\(condition))")) || \(rows)"))"
  }

  func removal(where condition: String) -> String {
    "\(lock);\nSELECT \(replacement(by: rows(where: "NOT (\(condition))")))"
  }

  func exist(on end: Connection, doing action: String) async throws -> Bool {
    let rows = try await end.query(
      "SELECT pg_catalog.to_regprocedure($1) IS NOT NULL AS it_does", [relation], doing: action,
      within: .seconds(15))
    return try rows.first?.bool("it_does") == true
  }
}
