import LibPQ

/// A statement trigger of ours on many tables, all calling one function. Tables are taken one at a time in
/// short tries, so that no writer queues for long behind the lock that a trigger needs, and the lock table
/// does not fill up.
struct FenceTriggers: Sendable {
  let connection: Connection
  let name: String
  /// Without arguments, schema-qualified: `replicate.guard`.
  let function: String
  /// Fires under every `session_replication_role`, so that no session escapes it.
  let firesAlways: Bool
  /// Not migrated: they may have other owners, and only an owner can create a trigger.
  var leftBehind: Set<RelationName> = []

  /// BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE, FOR EACH STATEMENT, as `pg_trigger.tgtype` spells it.
  private static let type = 0b11_1110

  struct Missing: Sendable {
    var table: RelationName
    /// It exists, but does not fire as it should.
    var isThere: Bool
  }

  /// The user's tables, including partitioned ones and leaves, where the trigger is missing or does not fire.
  func missing() async throws -> [Missing] {
    let rows = try await connection.query(
      """
      SELECT n.nspname, c.relname, EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE \(isOurs)) AS is_there,
        pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_ours
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(Catalog.isUserTable) AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t
        WHERE \(isOurs) AND t.tgenabled = '\(firesAlways ? "A" : "O")' AND t.tgqual IS NULL)
      ORDER BY n.nspname, c.relname
      """, doing: "looking for tables without trigger \(name) on the \(connection.end)", within: .seconds(60),
      isPrepared: true)
    return try rows.compactMap { row in
      let name = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      guard try row.bool("is_ours") || !leftBehind.contains(name) else { return nil }
      return Missing(table: name, isThere: try row.bool("is_there"))
    }
  }

  /// The definitions of tables and triggers at one moment, as far as rows can change unseen through them.
  struct Definitions: Sendable {
    fileprivate struct Table: Sendable {
      var name: RelationName
      /// The definition, and which transaction last wrote the trigger: a trigger that was disabled for a
      /// while differs.
      var definition: String
      /// The file that has its rows.
      var file: String
    }
    fileprivate var tables: [UInt32: Table] = [:]
    /// Whatever was written later is from this transaction or a later one.
    fileprivate var horizon = "0"
  }

  func definitions() async throws -> Definitions {
    let action = "reading the definitions of the \(connection.end)'s tables"
    let horizon = try await connection.query(
      "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) % 4294967296 AS xid",
      doing: action, within: .seconds(15), isPrepared: true)
    // Not the row version in pg_class: it also changes with statistics, and TRUNCATE rewrites it.
    let rows = try await connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, c.relfilenode AS file,
        pg_catalog.concat_ws(' ', c.relname, c.relnamespace, c.relam, c.relpersistence, c.relkind,
          c.relnatts, c.relispartition, c.relhasrules, t.oid, t.xmin) AS definition
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_trigger t ON \(isOurs)
      WHERE \(Catalog.isUserTable)
      """, doing: action, within: .seconds(60), isPrepared: true)
    var definitions = Definitions()
    definitions.horizon = try horizon.first?.text("xid") ?? "0"
    for row in rows {
      let name = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      if leftBehind.contains(name) { continue }
      definitions.tables[try row.integer("oid", as: UInt32.self)] = Definitions.Table(
        name: name, definition: try row.text("definition"), file: try row.text("file"))
    }
    return definitions
  }

  /// Tables that exist now and differ from before, or are new. VACUUM, ANALYZE and new indexes do not count;
  /// nor do TRUNCATE, CLUSTER and VACUUM FULL, which use another file, but put nothing into rows that the
  /// stream does not carry. Whatever rewrites rows with other values rewrites pg_attribute, too.
  func changed(since earlier: Definitions) async throws -> [RelationName] {
    let now = try await definitions()
    var changed = now.tables.filter { earlier.tables[$0.key]?.definition != $0.value.definition }
    let rewritten = now.tables.filter { table in
      changed[table.key] == nil && earlier.tables[table.key]?.file != table.value.file
    }
    if !rewritten.isEmpty {
      let rows = try await connection.query(
        """
        SELECT DISTINCT a.attrelid AS oid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0
          AND pg_catalog.age(a.xmin) <= pg_catalog.age($2::pg_catalog.xid)
        """, [SQL.array(rewritten.keys.map(String.init)), earlier.horizon],
        doing: "looking for columns of the \(connection.end) that were redefined", within: .seconds(15))
      for row in rows {
        let oid = try row.integer("oid", as: UInt32.self)
        changed[oid] = rewritten[oid]
      }
    }
    return changed.values.map(\.name).sorted()
  }

  /// Creates the triggers of several tables at once, where nobody else uses them, or of one.
  /// - Throws: the last try's error, with SQLSTATE 55P03, when a table's lock could not be had in time.
  func create(on tables: [Missing], until deadline: ContinuousClock.Instant) async throws {
    guard let first = tables.first else { return }
    let others = tables.count > 1 ? " and \(tables.count - 1) more" : ""
    try await LockRetry.execute(
      tables.flatMap(statements).joined(separator: ";\n"), on: connection,
      doing: "creating trigger \(name) on \(first.table)\(others) of the \(connection.end)",
      within: deadline - .now)
  }

  private func statements(for missing: Missing) -> [String] {
    let trigger = SQL.identifier(name)
    var statements: [String] = []
    if !missing.isThere {
      statements.append(
        """
        CREATE TRIGGER \(trigger) BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON \(missing.table)
          FOR EACH STATEMENT EXECUTE FUNCTION \(function)()
        """)
    }
    if firesAlways || missing.isThere {
      statements.append(
        "ALTER TABLE ONLY \(missing.table) ENABLE \(firesAlways ? "ALWAYS " : "")TRIGGER \(trigger)")
    }
    return statements
  }

  /// The changes that drop the triggers. Each takes an ACCESS EXCLUSIVE lock for a moment.
  func drops() async throws -> [LateChange] {
    let rows = try await connection.query(
      """
      SELECT n.nspname, c.relname FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(isOurs)
      """, doing: "looking for trigger \(name) on the \(connection.end)", within: .seconds(60))
    return try rows.map { row in
      let table = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      return LateChange(
        table, doing: "dropping trigger \(name) of \(table) on the \(connection.end)",
        "DROP TRIGGER IF EXISTS \(SQL.identifier(name)) ON \(table)")
    }
  }

  /// Makes late changes, drops the triggers, and once all are gone, the function.
  /// - Parameter others: made first.
  func remove(
    after others: [LateChange] = [], within limit: Duration,
    quieting: (before: [String], after: [String]) = ([], [])
  ) async throws -> LateChanges.Left {
    let changes = LateChanges(connection: connection, quieting: quieting)
    let left = try await changes.make(others + drops(), within: limit)
    if left.isEmpty {
      try await connection.query(
        changes.quiet("DROP FUNCTION IF EXISTS \(function)()"),
        doing: "dropping function \(function)() on the \(connection.end)", within: .seconds(15))
    }
    return left
  }

  /// `t` is the trigger and `c` its table. The function is looked up once per query, not once per table.
  private var isOurs: String {
    """
    t.tgrelid = c.oid AND t.tgname = \(SQL.literal(name)) AND t.tgtype = \(Self.type)
      AND t.tgfoid = (SELECT pg_catalog.to_regprocedure('\(function)()'))
    """
  }
}
