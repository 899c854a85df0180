import LibPQ

/// A unique index that identifies the rows of a table: valid, not deferrable, over plain columns and all
/// rows.
struct UniqueIndex: Sendable, Equatable {
  struct Key: Sendable, Equatable {
    var column: String
    /// The operator class's own equality, spelled so that no search path can change it:
    /// `OPERATOR(pg_catalog.=)`.
    var equality: String
  }

  var isPrimary: Bool
  var keys: [Key]

  /// The indexes of all of the user's tables, by the table's OID (manual, section 53.26 `pg_index`).
  static func read(from connection: Connection) async throws -> [UInt32: [UniqueIndex]] {
    let rows = try await connection.query(
      """
      SELECT i.indrelid, i.indexrelid, i.indisprimary, a.attname,
        pg_catalog.format('OPERATOR(%I.%s)', o_n.nspname, o.oprname) AS equality
      FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey), pg_catalog.unnest(i.indclass))
          WITH ORDINALITY AS k (attnum, opclass, position)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        JOIN pg_catalog.pg_opclass oc ON oc.oid = k.opclass
        JOIN pg_catalog.pg_amop s ON s.amopfamily = oc.opcfamily AND s.amoplefttype = oc.opcintype
          AND s.amoprighttype = oc.opcintype AND s.amopstrategy = 3 AND s.amoppurpose = 's'
        JOIN pg_catalog.pg_operator o ON o.oid = s.amopopr
        JOIN pg_catalog.pg_namespace o_n ON o_n.oid = o.oprnamespace
      WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
        AND k.position <= i.indnkeyatts AND \(Catalog.isUserTable)
      ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid, k.position
      """, doing: "reading the unique indexes", within: .seconds(60))
    var indexes: [UInt32: [UniqueIndex]] = [:]
    var last: (table: UInt32, index: UInt32)?
    for row in rows {
      let table = try row.integer("indrelid", as: UInt32.self)
      let index = try row.integer("indexrelid", as: UInt32.self)
      let key = Key(column: try row.text("attname"), equality: try row.text("equality"))
      var ofTable = indexes[table] ?? []
      if let last, last == (table, index), var open = ofTable.popLast() {
        open.keys.append(key)
        ofTable.append(open)
      } else {
        ofTable.append(UniqueIndex(isPrimary: try row.bool("indisprimary"), keys: [key]))
      }
      indexes[table] = ofTable
      last = (table, index)
    }
    return indexes
  }
}
