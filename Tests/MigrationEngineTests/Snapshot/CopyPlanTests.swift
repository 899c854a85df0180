import Testing

@testable import LogicalReplication
@testable import MigrationEngine

struct CopyPlanTests {
  private func column(_ name: String, _ typeOID: UInt32, isGenerated: Bool = false) -> Column {
    Column(
      name: name, type: "t", typeOID: typeOID, wireTypeOID: typeOID, identity: .none,
      isGenerated: isGenerated)
  }

  private func relation(
    _ name: String, oid: UInt32 = 1, bytes: Int64 = 0, schema: String = "public", _ columns: [Column]
  ) -> Relation {
    Relation(
      oid: oid, name: RelationName(schema: schema, name: name), kind: .table, isPartition: false,
      isUnlogged: false, replicaIdentity: .primaryKey, hasUsableIdentity: true, bytes: bytes,
      heapBlocks: bytes / 8192, estimatedRows: 0, columns: columns)
  }

  private func piece(_ relation: Relation) throws -> CopyPiece {
    try #require(CopyPlan([relation], workers: 1).batches.first?.pieces.first)
  }

  private let megabyte: Int64 = 1 << 20

  @Test func `large tables come first, equal ones by name, and each once`() {
    let relations = [
      relation("b", bytes: 5 * megabyte, []), relation("small", bytes: 1, []),
      relation("a", bytes: 5 * megabyte, []), relation("large", bytes: .max, []),
    ]
    let plan = CopyPlan(relations, workers: 1)
    #expect(plan.batches.flatMap(\.pieces).map(\.name.name) == ["large", "a", "b", "small"])
    #expect(CopyPlan([], workers: 1).batches.isEmpty)
  }

  @Test func `both ends name the same columns in the same order, and a large table is frozen`() throws {
    let orders = relation("orders", bytes: 2 * megabyte, [column("id", 20), column("note", 25)])
    let batch = try #require(CopyPlan([orders], workers: 1).batches.first)
    #expect(batch.clearing == #"TRUNCATE ONLY "public"."orders""#)
    #expect(
      batch.pieces.first?.copyOut == #"COPY "public"."orders" ("id", "note") TO STDOUT WITH (FORMAT binary)"#)
    #expect(
      batch.pieces.first?.copyIn
        == #"COPY "public"."orders" ("id", "note") FROM STDIN WITH (FORMAT binary, FREEZE)"#)
  }

  @Test func `small tables share a transaction, up to a hundred`() {
    let relations = (1...250).map { relation("t\($0)", oid: UInt32($0), bytes: 8192, [column("a", 23)]) }
    let plan = CopyPlan(relations, workers: 4)
    #expect(plan.batches.map(\.pieces.count) == [100, 100, 50])
    #expect(Set(plan.batches.flatMap(\.pieces).map(\.name)).count == 250)
    #expect(plan.batches.allSatisfy { $0.clearing?.hasPrefix("DELETE FROM ONLY ") == true })
    #expect(plan.batches.allSatisfy { !($0.pieces.first?.copyIn.contains("FREEZE") ?? true) })
  }

  @Test func `a server that reads all for a place is asked for ranges of keys, without a gap or an end`() {
    var large = relation("large", oid: 7, bytes: 300 * megabyte, [column("a", 20)])
    large.isMostlyTOAST = true
    func conditions(_ bounds: [String]?) -> [Substring?] {
      let ranges = bounds.map { KeyRanges(column: "a", type: "bigint", bounds: $0) }
      let plan = CopyPlan([large], workers: 2, cut: .keys(ranges.map { [7: $0] } ?? [:]))
      return plan.batches.flatMap(\.pieces).map {
        $0.copyOut.split(separator: " WHERE ").dropFirst().first?.split(separator: ") TO STDOUT").first
      }
    }
    #expect(conditions(nil) == [nil])
    #expect(
      conditions(["10"]) == [
        "a OPERATOR(pg_catalog.<) '10'::bigint", "a OPERATOR(pg_catalog.>=) '10'::bigint",
      ])
    #expect(
      conditions(["-5", "0", "5", "10", "20", "30"]).compactMap { $0 }.map { $0.filter { $0 != " " } } == [
        "aOPERATOR(pg_catalog.<)'-5'::bigint",
        "aOPERATOR(pg_catalog.>=)'-5'::bigintANDaOPERATOR(pg_catalog.<)'5'::bigint",
        "aOPERATOR(pg_catalog.>=)'5'::bigintANDaOPERATOR(pg_catalog.<)'20'::bigint",
        "aOPERATOR(pg_catalog.>=)'20'::bigint",
      ])
  }

  @Test func `a table beyond a worker's share is cut by blocks, without a gap or an end`() {
    var large = relation("large", oid: 7, bytes: 300 * megabyte, [column("a", 23)])
    large.isMostlyTOAST = true
    let other = relation("other", oid: 8, bytes: 20 * megabyte, [column("a", 23)])
    let plan = CopyPlan([other, large], workers: 2)
    #expect(plan.split == [large.name])
    let parts = plan.batches.flatMap(\.pieces).filter { $0.sourceOID == 7 }
    #expect(parts.count == 4 && parts.allSatisfy { $0.parts == 4 })
    #expect(
      parts.map { piece in
        piece.copyOut.replacing("COPY (SELECT \"a\" FROM ONLY \"public\".\"large\" WHERE ", with: "")
          .replacing(") TO STDOUT WITH (FORMAT binary)", with: "")
      } == [
        "ctid >= '(0,0)' AND ctid < '(9600,0)'", "ctid >= '(9600,0)' AND ctid < '(19200,0)'",
        "ctid >= '(19200,0)' AND ctid < '(28800,0)'", "ctid >= '(28800,0)'",
      ])
    #expect(parts.allSatisfy { !$0.copyIn.contains("FREEZE") })
    #expect(CopyPlan([other, large], workers: 1).split.isEmpty)
  }

  @Test func `two workers cut only a table whose values are mostly outside of its rows`() {
    var large = relation("large", oid: 7, bytes: 300 * megabyte, [column("a", 25)])
    #expect(CopyPlan([large], workers: 2).split.isEmpty)
    large.isMostlyTOAST = true
    #expect(CopyPlan([large], workers: 2).split == [large.name])
    #expect(CopyPlan([large], workers: 1).split.isEmpty)
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
      #expect(piece.copyIn == #"COPY "public"."t" FROM STDIN WITH (FORMAT text)"#)
    }
  }

  @Test func `names are quoted, whatever is in them`() throws {
    let piece = try piece(relation("or\"ders", schema: "My Schema", [column("a\", \"b", 23)]))
    #expect(piece.copyOut.hasPrefix(#"COPY "My Schema"."or""ders" ("a"", ""b") TO"#))
  }

  @Test func `one column that binary cannot carry exactly makes the table travel as text`() throws {
    let piece = try piece(relation("t", [column("a", 23), column("b", 2205)]))
    #expect(piece.copyOut.hasSuffix("(FORMAT text)"))
    #expect(piece.copyIn.hasSuffix("(FORMAT text)"))
  }

  @Test func `a label and a domain travel as what they are made of`() throws {
    var label = column("label", 16_384)
    label.wireTypeOID = 25
    #expect(try piece(relation("t", [label])).copyOut.hasSuffix("(FORMAT binary)"))
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
