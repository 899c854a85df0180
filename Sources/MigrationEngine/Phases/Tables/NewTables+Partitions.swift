import Foundation
import LibPQ
import LogicalReplication

/// A partition is attached after its indexes are built, since its parent on the target would create others.
extension NewTables {
  /// Partitions that an earlier try has attached: their indexes could not be recreated.
  func detach(_ relations: [Relation]) async throws {
    let names = relations.filter(\.isPartition).map(\.name)
    let rows = try await ends.target.query(
      """
      SELECT pg_catalog.format('ALTER TABLE %s DETACH PARTITION %I.%I', i.inhparent::pg_catalog.regclass,
        n.nspname, c.relname) AS statement
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS k (schema, name)
        JOIN pg_catalog.pg_namespace n ON n.nspname = k.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = k.name
        JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
      WHERE c.relispartition
      """, [SQL.array(names.map(\.schema)), SQL.array(names.map(\.name))],
      doing: "looking for partitions of an earlier try", within: .seconds(15))
    for row in rows {
      try await ends.target.query(try row.text("statement"), doing: "detaching a partition of an earlier try")
    }
  }

  /// pg_dump before 14 has no entry for it: it attaches a partition in the statement that makes it, and that
  /// was undone.
  /// - Parameter archive: of the new tables.
  func attach(_ relations: [Relation], missingIn archive: URL) async throws {
    let names = relations.filter(\.isPartition).map(\.name)
    guard !names.isEmpty, try await !transfer.attachesTables(in: archive) else { return }
    let parameters = [SQL.array(names.map(\.schema)), SQL.array(names.map(\.name))]
    let missing = Set(
      try await ends.target.query(
        """
        SELECT n.nspname, c.relname
        FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS k (schema, name)
          JOIN pg_catalog.pg_namespace n ON n.nspname = k.schema
          JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = k.name
        WHERE NOT c.relispartition
        """, parameters, doing: "looking for partitions to attach", within: .seconds(15)
      ).map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) })
    let rows = try await ends.source.query(
      """
      SELECT n.nspname, c.relname, pg_catalog.format('ALTER TABLE ONLY %I.%I ATTACH PARTITION %I.%I %s',
        m.nspname, p.relname, n.nspname, c.relname,
        pg_catalog.pg_get_expr(c.relpartbound, c.oid)) AS statement
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS k (schema, name)
        JOIN pg_catalog.pg_namespace n ON n.nspname = k.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = k.name
        JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
        JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
        JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace
      WHERE c.relispartition
      """, parameters, doing: "reading the bounds of new partitions", within: .seconds(15))
    for row in rows {
      let name = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
      guard missing.contains(name) else { continue }
      try await ends.target.query(try row.text("statement"), doing: "attaching partition \(name)")
    }
  }
}
