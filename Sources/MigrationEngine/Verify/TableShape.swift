import LibPQ

/// A table or materialized view as a comparison sees it on one end.
struct TableShape: Sendable, Equatable {
  struct Column: Sendable, Equatable {
    var name: String
    /// With its modifier, for reporting differences.
    var type: String
    var typeOID: UInt32
    /// Beneath all domains.
    var baseOID: UInt32
    /// The same in SQL, without modifier.
    var baseType: String
    var isDomain: Bool
    var isEnum: Bool
    /// The base type's, when it is one of pg_catalog.
    var send: String?
    /// An array of the base type in SQL, and its element separator; nil without one.
    var arrayType: String?
    var delimiter = UInt8(ascii: ",")
    /// Its text contains floating-point numbers.
    var printsFloats = false

    /// Trailing blanks do not count when it is hashed.
    var isBlankPadded: Bool { baseOID == 1042 }
    /// All values of this `character(n)` have as many characters.
    var hasFixedLength: Bool { type.hasPrefix("character(") }
  }

  var oid: UInt32
  var name: RelationName
  var isMaterializedView: Bool
  var isPopulated: Bool
  var isUnlogged: Bool
  /// Heap and TOAST.
  var bytes: Int64
  var heapBlocks: Int64
  /// Those that are stored.
  var columns: [Column]
  /// Columns of the primary key, else of the replica identity's index; empty without any.
  var key: [String]
  /// For an extension's table: the condition for the user's rows, from its script; empty for all. Nil for
  /// every other table.
  var extensionCondition: String?
  /// Our role has SELECT on it.
  var mayRead = true

  /// All relations of the user's that hold rows.
  /// - Parameter findsFloats: also finds types that contain floating-point numbers.
  static func read(from connection: Connection, findsFloats: Bool) async throws -> [RelationName: TableShape]
  {
    let floats = findsFloats ? try await typesWithFloats(connection) : []
    let columns = try await readColumns(connection, floats)
    let keys = try await readKeys(connection)
    let rows = try await connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, c.relkind = 'm' AS is_matview, c.relispopulated,
        c.relpersistence = 'u' AS is_unlogged, pg_catalog.pg_table_size(c.oid) AS bytes,
        pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint AS blocks,
        (SELECT coalesce(x.extcondition[pg_catalog.array_position(x.extconfig, c.oid)], '')
          FROM pg_catalog.pg_extension x WHERE c.oid = ANY (x.extconfig) LIMIT 1) AS condition,
        pg_catalog.has_schema_privilege(n.oid, 'USAGE')
          AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS may_read
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE \(isCompared)
      """, doing: "reading the tables of the \(connection.end)", within: .seconds(60))
    var shapes: [RelationName: TableShape] = [:]
    for row in rows {
      let oid = try row.integer("oid", as: UInt32.self)
      let name = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      shapes[name] = TableShape(
        oid: oid, name: name, isMaterializedView: try row.bool("is_matview"),
        isPopulated: try row.bool("relispopulated"), isUnlogged: try row.bool("is_unlogged"),
        // Dropped since: the server then returns NULL.
        bytes: Int64(try row.optional("bytes") ?? "0") ?? 0,
        heapBlocks: Int64(try row.optional("blocks") ?? "0") ?? 0,
        columns: columns[oid] ?? [], key: keys[oid] ?? [],
        extensionCondition: try row.optional("condition"), mayRead: try row.optional("may_read") != "f")
    }
    return shapes
  }

  private static let isCompared = """
    c.relkind IN ('r', 'm') AND c.relpersistence IN ('p', 'u')
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
    AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
        WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
      OR \(ConfigurationTable.isOne))
    """

  /// Without columns computed on read: they would run functions of the user's.
  private static func readColumns(_ connection: Connection, _ floats: Set<UInt32>) async throws
    -> [UInt32: [Column]]
  {
    // Versions 10 and 11 have no generated columns, and no attgenerated in pg_attribute.
    let isStored =
      try await connection.has(.generatedColumns) ? "AND a.attgenerated IN ('', 's')" : ""
    let rows = try await connection.query(
      """
      WITH RECURSIVE base (oid, base) AS (
        SELECT oid, typbasetype FROM pg_catalog.pg_type WHERE typtype = 'd'
        UNION ALL
        SELECT b.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.base
        WHERE t.typtype = 'd')
      SELECT a.attrelid, a.attname, a.atttypid, t.oid AS base,
        pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
        pg_catalog.format_type(t.oid, -1) AS base_type,
        CASE WHEN t.typarray <> 0 THEN pg_catalog.format_type(t.typarray, -1) END AS array_type,
        pg_catalog.ascii(t.typdelim::text) AS delimiter, b.oid IS NOT NULL AS is_domain,
        t.typtype = 'e' AS is_enum,
        (SELECT p.proname FROM pg_catalog.pg_proc p WHERE p.oid = t.typsend AND p.oid < 16384) AS send
      FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN (SELECT b.oid, b.base FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.base
          WHERE t.typtype <> 'd') AS b ON b.oid = a.atttypid
        JOIN pg_catalog.pg_type t ON t.oid = coalesce(b.base, a.atttypid)
      WHERE a.attnum > 0 AND NOT a.attisdropped \(isStored) AND \(isCompared)
      ORDER BY a.attrelid, a.attnum
      """, doing: "reading the columns of the \(connection.end)'s tables", within: .seconds(60))
    var columns: [UInt32: [Column]] = [:]
    for row in rows {
      let base = try row.integer("base", as: UInt32.self)
      columns[try row.integer("attrelid", as: UInt32.self), default: []].append(
        Column(
          name: try row.text("attname"), type: try row.text("type"),
          typeOID: try row.integer("atttypid", as: UInt32.self), baseOID: base,
          baseType: try row.text("base_type"), isDomain: try row.bool("is_domain"),
          isEnum: try row.bool("is_enum"), send: try row.optional("send"),
          arrayType: try row.optional("array_type"),
          delimiter: try row.integer("delimiter", as: UInt8.self),
          printsFloats: floats.contains(base)))
    }
    return columns
  }

  private static func readKeys(_ connection: Connection) async throws -> [UInt32: [String]] {
    let rows = try await connection.query(
      """
      SELECT i.indrelid, i.indexrelid, a.attname
      FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k (attnum, position)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      WHERE (i.indisprimary OR i.indisreplident) AND i.indisvalid AND k.position <= i.indnkeyatts
        AND \(isCompared)
      ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid, k.position
      """, doing: "reading the keys of the \(connection.end)'s tables", within: .seconds(60))
    var keys: [UInt32: [String]] = [:]
    var chosen: [UInt32: UInt32] = [:]
    for row in rows {
      let table = try row.integer("indrelid", as: UInt32.self)
      let index = try row.integer("indexrelid", as: UInt32.self)
      // The primary key comes first.
      guard chosen[table, default: index] == index else { continue }
      chosen[table] = index
      keys[table, default: []].append(try row.text("attname"))
    }
    return keys
  }

  /// Types that print floating-point numbers, at any depth.
  private static func typesWithFloats(_ connection: Connection) async throws -> Set<UInt32> {
    let rows = try await connection.query(
      """
      WITH RECURSIVE part (whole, part) AS (
        SELECT oid, typelem FROM pg_catalog.pg_type WHERE typelem <> 0
        UNION SELECT oid, typbasetype FROM pg_catalog.pg_type WHERE typbasetype <> 0
        UNION SELECT rngtypid, rngsubtype FROM pg_catalog.pg_range
        UNION SELECT t.oid, a.atttypid FROM pg_catalog.pg_type t
          JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
          WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped),
      floating (oid) AS (
        SELECT oid FROM pg_catalog.pg_type WHERE oid IN (700, 701, 600, 601, 602, 603, 604, 628, 718)
        UNION SELECT p.whole FROM floating f JOIN part p ON p.part = f.oid)
      SELECT oid FROM floating
      """, doing: "reading which types of the \(connection.end) have floating-point numbers",
      within: .seconds(60))
    return Set(try rows.map { try $0.integer("oid", as: UInt32.self) })
  }
}

extension TableShape {
  /// Of an extension's table of jobs, without where and whether they run.
  fileprivate static func isOfPlace(_ column: Column) -> Bool {
    ConfigurationTable.ofPlace.contains(column.name)
  }

  /// A table of an extension as it is compared.
  var withoutColumnsOfPlace: TableShape {
    guard extensionCondition != nil, ConfigurationTable.isOfJobs(name) else { return self }
    var shape = self
    shape.columns.removeAll(where: Self.isOfPlace)
    return shape
  }
}
