import LibPQ

/// A statement trigger of ours on many tables, all calling one function. Tables are taken one by one in short
/// tries, so that no writer queues for long behind the lock that a trigger needs, and no lock table fills up.
struct GuardTriggers: Sendable {
  let connection: Connection
  let name: String
  /// Without arguments, schema-qualified: `replicate.guard`.
  let function: String
  /// Fires under every `session_replication_role`, so that nobody escapes it.
  let firesAlways: Bool
  /// Not migrated: it may belong to others, who let nobody else put a trigger on it.
  var leftBehind: Set<RelationName> = []

  /// BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE, FOR EACH STATEMENT, as `pg_trigger.tgtype` spells it.
  private static let type = 0b11_1110

  struct Missing: Sendable {
    var table: RelationName
    /// But does not fire as it should.
    var isThere: Bool
  }

  /// The user's tables, partitioned ones and leaves among them, where the trigger is missing or does not
  /// fire.
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

  /// Which transaction last wrote the catalog's rows of each table and its trigger. VACUUM, ANALYZE and new
  /// indexes leave them alone; whatever rewrites rows, or disables a trigger, does not.
  struct Definitions: Sendable {
    fileprivate var writers: [UInt32: String] = [:]
    fileprivate var names: [UInt32: RelationName] = [:]

    /// Tables that are there still or newly, and are not what they were.
    func changed(since earlier: Definitions) -> [RelationName] {
      names.filter { writers[$0.key] != earlier.writers[$0.key] }.values
        .sorted()
    }
  }

  func definitions() async throws -> Definitions {
    let rows = try await connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, pg_catalog.concat_ws(' ', c.xmin, t.xmin) AS writers
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_trigger t ON \(isOurs)
      WHERE \(Catalog.isUserTable)
      """, doing: "reading the definitions of the \(connection.end)'s tables", within: .seconds(60),
      isPrepared: true)
    var definitions = Definitions()
    for row in rows {
      let name = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      if leftBehind.contains(name) { continue }
      let oid = try row.integer("oid", as: UInt32.self)
      definitions.writers[oid] = try row.text("writers")
      definitions.names[oid] = name
    }
    return definitions
  }

  /// Creates the triggers of several tables at once, where nobody else needs them, or of one.
  /// - Throws: the last try's error, with SQLSTATE 55P03, when a table's lock could not be had in time.
  func create(on tables: [Missing], until deadline: ContinuousClock.Instant) async throws {
    guard let first = tables.first else { return }
    let others = tables.count > 1 ? " and \(tables.count - 1) more" : ""
    try await LockRetry.run(
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

  /// Drops the triggers, then the function.
  /// - Parameter quieting: statements that every transaction begins and ends with.
  func remove(
    within limit: Duration, quieting: (before: [String], after: [String]) = ([], [])
  ) async throws {
    func quiet(_ statement: String) -> String {
      (quieting.before + [statement] + quieting.after).joined(separator: ";\n")
    }
    let deadline = ContinuousClock.now + limit
    let rows = try await connection.query(
      """
      SELECT n.nspname, c.relname FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(isOurs)
      """, doing: "looking for trigger \(name) on the \(connection.end)", within: .seconds(60))
    for row in rows {
      let table = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      try await LockRetry.run(
        quiet("DROP TRIGGER IF EXISTS \(SQL.identifier(name)) ON \(table)"), on: connection,
        doing: "dropping trigger \(name) of \(table) on the \(connection.end)", within: deadline - .now)
    }
    try await connection.query(
      quiet("DROP FUNCTION IF EXISTS \(function)()"),
      doing: "dropping function \(function)() on the \(connection.end)",
      within: .seconds(15))
  }

  /// `t` is the trigger and `c` its table. The function is looked up once a query, and not once a table.
  private var isOurs: String {
    """
    t.tgrelid = c.oid AND t.tgname = \(SQL.literal(name)) AND t.tgtype = \(Self.type)
      AND t.tgfoid = (SELECT pg_catalog.to_regprocedure('\(function)()'))
    """
  }
}
