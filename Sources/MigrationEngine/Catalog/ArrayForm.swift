import LibPQ

/// How many values of one type are sent in one parameter.
enum ArrayForm: Sendable, Equatable {
  /// As an array of the type, whose input function reads each value.
  /// - isPlain: the type's text needs no quoting in an array.
  case array(type: String, delimiter: UInt8, isPlain: Bool)
  /// As texts that are cast: an array of arrays would be one array with more dimensions (manual, section
  /// 8.15.3), and `unnest` splits composites.
  case texts(cast: String)

  /// The parameter's type.
  var parameterType: String {
    switch self {
    case .array(let type, _, _): type
    case .texts: "pg_catalog.text[]"
    }
  }

  /// Numbers, truth values, dates and UUIDs.
  private static let plain: Set<UInt32> = [
    16, 20, 21, 23, 26, 700, 701, 1700, 1082, 1083, 1114, 1184, 1266, 2950,
  ]

  /// The forms of all column types, by the type's OID; a missing type has none.
  static func read(from connection: Connection) async throws -> [UInt32: ArrayForm] {
    let rows = try await connection.query(
      """
      WITH RECURSIVE base (oid, type) AS (
        SELECT oid, oid FROM pg_catalog.pg_type
        UNION ALL
        SELECT b.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type
        WHERE t.typtype = 'd')
      SELECT t.oid, pg_catalog.ascii(t.typdelim::text) AS delimiter,
        -- With -1 the name of a type whose length is not given, also of bit and char.
        CASE WHEN t.typarray <> 0 AND NOT is_composite THEN pg_catalog.format_type(t.typarray, -1) END
          AS array_type,
        -- A cast of the user's own would come before the type's input function.
        CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_cast c
          WHERE c.castsource = 'pg_catalog.text'::pg_catalog.regtype AND c.casttarget = t.oid)
        THEN pg_catalog.format_type(t.oid, -1) END AS text_cast
      FROM pg_catalog.pg_type t
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM base b JOIN pg_catalog.pg_type c ON c.oid = b.type
          WHERE b.oid = t.oid AND c.typtype = 'c') AS is_composite) AS kind
      WHERE t.oid IN (SELECT a.atttypid FROM pg_catalog.pg_attribute a
          JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
        WHERE a.attnum > 0 AND NOT a.attisdropped)
      """, doing: "reading the types of all columns", within: .seconds(60))
    var forms: [UInt32: ArrayForm] = [:]
    for row in rows {
      let oid = try row.integer("oid", as: UInt32.self)
      if let type = try row.optional("array_type") {
        forms[oid] = .array(
          type: SQL.type(type), delimiter: try row.integer("delimiter", as: UInt8.self),
          isPlain: plain.contains(oid))
      } else if let type = try row.optional("text_cast") {
        forms[oid] = .texts(cast: SQL.type(type))
      }
    }
    return forms
  }
}
