import LogicalReplication
import Testing

@testable import MigrationEngine

struct CopyPlanTests {
  private func column(_ name: String, _ typeOID: UInt32, isGenerated: Bool = false) -> Column {
    Column(name: name, type: "t", typeOID: typeOID, identity: .none, isGenerated: isGenerated)
  }

  private func relation(
    _ name: String, bytes: Int64 = 0, schema: String = "public", _ columns: [Column]
  ) -> Relation {
    Relation(
      oid: 1, name: RelationName(schema: schema, name: name), kind: .table, isPartition: false,
      isUnlogged: false, replicaIdentity: .primaryKey, hasUsableIdentity: true, bytes: bytes,
      estimatedRows: 0, columns: columns)
  }

  private func piece(_ relation: Relation) throws -> CopyPiece {
    try #require(CopyPlan([relation]).pieces.first)
  }

  @Test func `large tables come first, equal ones by name, and each once`() {
    let relations = [
      relation("b", bytes: 5, []), relation("small", bytes: 1, []), relation("a", bytes: 5, []),
      relation("large", bytes: .max, []),
    ]
    #expect(CopyPlan(relations).pieces.map(\.name.name) == ["large", "a", "b", "small"])
    #expect(CopyPlan([]).pieces.isEmpty)
  }

  @Test func `both ends name the same columns in the same order, and the target freezes`() throws {
    let piece = try piece(relation("orders", [column("id", 20), column("note", 25)]))
    #expect(
      piece.copyOut == #"COPY "public"."orders" ("id", "note") TO STDOUT WITH (FORMAT binary)"#)
    #expect(
      piece.copyIn == #"COPY "public"."orders" ("id", "note") FROM STDIN WITH (FORMAT binary, FREEZE)"#)
  }

  @Test func `generated columns are left to the target`() throws {
    let piece = try piece(relation("t", [column("a", 23), column("sum", 23, isGenerated: true)]))
    #expect(!piece.copyOut.contains("sum"))
    #expect(!piece.copyIn.contains("sum"))
  }

  @Test func `a table whose columns are all generated, or that has none, travels as text`() throws {
    for columns in [[], [column("g", 23, isGenerated: true)]] {
      let piece = try piece(relation("t", columns))
      #expect(piece.copyOut == #"COPY "public"."t" TO STDOUT WITH (FORMAT text)"#)
      #expect(piece.copyIn == #"COPY "public"."t" FROM STDIN WITH (FORMAT text, FREEZE)"#)
    }
  }

  @Test func `names are quoted, whatever is in them`() throws {
    let piece = try piece(relation("or\"ders", schema: "My Schema", [column("a\", \"b", 23)]))
    #expect(piece.copyOut.hasPrefix(#"COPY "My Schema"."or""ders" ("a"", ""b") TO"#))
  }

  @Test func `one column that binary cannot carry exactly makes the table travel as text`() throws {
    let piece = try piece(relation("t", [column("a", 23), column("b", 2205)]))
    #expect(piece.copyOut.hasSuffix("(FORMAT text)"))
    #expect(piece.copyIn.hasSuffix("(FORMAT text, FREEZE)"))
  }

  @Test(arguments: [
    (16, "boolean"), (17, "bytea"), (20, "bigint"), (25, "text"), (114, "json"), (3802, "jsonb"),
    (1700, "numeric"), (1184, "timestamptz"), (1186, "interval"), (2950, "uuid"), (1009, "text[]"),
    (3807, "jsonb[]"), (3910, "tstzrange"),
  ])
  func `is sent in binary`(typeOID: UInt32, name: String) {
    #expect(BinaryFormat.isExact(typeOID: typeOID), "\(name)")
  }

  @Test(arguments: [
    (24, "regproc"), (2205, "regclass"), (2206, "regtype"), (4096, "regrole"), (2210, "regclass[]"),
    (1033, "aclitem"), (2249, "record"), (16_384, "the first type of a user's"), (0, "no type"),
    (UInt32.max, "the last type"),
  ])
  func `is sent as text`(typeOID: UInt32, name: String) {
    #expect(!BinaryFormat.isExact(typeOID: typeOID), "\(name)")
  }
}
