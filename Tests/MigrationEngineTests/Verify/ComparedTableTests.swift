import Testing

@testable import MigrationEngine

struct ComparedTableTests {
  private func column(
    _ name: String, _ type: String = "integer", _ oid: UInt32 = 23, send: String? = "int4send",
    isDomain: Bool = false, isEnum: Bool = false, printsFloats: Bool = false
  ) -> TableShape.Column {
    TableShape.Column(
      name: name, type: type, typeOID: oid, baseOID: oid, baseType: type, isDomain: isDomain, isEnum: isEnum,
      send: send, printsFloats: printsFloats)
  }

  private func table(
    _ source: [TableShape.Column], _ target: [TableShape.Column], key: [String] = [],
    writesFloatsDifferently: Bool = false
  ) -> ComparedTable {
    func shape(_ columns: [TableShape.Column]) -> TableShape {
      TableShape(
        oid: 1, name: RelationName(schema: "public", name: "t"), isMaterializedView: false, isPopulated: true,
        isUnlogged: false, bytes: 0, heapBlocks: 0, columns: columns, key: key)
    }
    return ComparedTable(
      source: shape(source), target: shape(target),
      ComparedTable.Agreement(
        digest: Digest(function: .record, seed: 7), sharesEncoding: true,
        writesFloatsDifferently: writesFloatsDifferently))
  }

  private let whole = ScanPiece(table: 0, condition: nil, bytes: 0)

  @Test func `columns go in by their names, whatever their order on either end`() {
    let table = table([column("b"), column("a"), column("Z")], [column("a"), column("Z"), column("b")])
    #expect(table.columns.map(\.name) == ["Z", "a", "b"])
    #expect(table.sum(.source, whole) == table.sum(.target, whole))
    #expect(table.problems == [])
  }

  @Test func `a column that one end lacks, and one of another type, are named`() {
    let table = table(
      [column("a"), column("b"), column("odd \"one\"")],
      [column("a", "bigint", 20, send: "int8send"), column("c")])
    #expect(
      table.problems == [
        "column \"a\" is of type integer on the source and bigint on the target",
        "column \"b\" is missing on the target", "column \"odd \"\"one\"\"\" is missing on the target",
        "column \"c\" is missing on the source",
      ])
    // 1 and 1 are the same as text, and not in binary.
    #expect(table.columns.map(\.form) == [.text])
    #expect(table.method == .text)
  }

  @Test func `labels of an enum go in without their type, other types of users as text`() {
    let table = table(
      [
        column("e", "public.mood", 16500, send: "enum_send", isEnum: true),
        column("x", "public.x", 16600, send: nil),
      ],
      [
        column("e", "public.mood", 17500, send: "enum_send", isEnum: true),
        column("x", "public.x", 17600, send: nil),
      ])
    #expect(
      table.columns.map(\.form) == [
        .binary(send: "enum_send", typeOID: 0, sharesEncoding: false), .text,
      ])
    #expect(table.reason == "as text, for lack of a binary form that both ends share: \"x\"")
  }

  @Test func `what the versions write differently is compared by whether it is NULL`() {
    let columns = [column("x", "public.x", 16600, send: nil, printsFloats: true)]
    #expect(table(columns, columns).columns.map(\.form) == [.text])
    let across = table(columns, columns, writesFloatsDifferently: true)
    #expect(across.columns.map(\.form) == [.presence])
    #expect(across.reason?.contains("only whether they are NULL") == true)
  }

  @Test func `a domain's values go in as those of its base type`() {
    let columns = [column("d", isDomain: true)]
    #expect(table(columns, columns).sum(.source, whole).contains("t.\"d\"::integer"))
  }

  @Test func `a key that the target lacks distinguishes no rows`() {
    #expect(table([column("a"), column("b")], [column("b")], key: ["a"]).key == [])
    #expect(table([column("a"), column("b")], [column("a")], key: ["a"]).key == ["a"])
  }

  @Test func `only the table itself is read, and only the piece`() {
    let piece = ScanPiece(table: 0, condition: "c", bytes: 0)
    let table = table([column("a")], [column("a")], key: ["a"])
    for sql in [
      table.count(.source, piece), table.sum(.source, piece), table.buckets(.source, piece, buckets: 8),
      table.rows(.source, piece, buckets: 8, only: nil), table.rows(.source, piece, buckets: 8, only: [3]),
    ] {
      #expect(sql.contains("FROM ONLY \"public\".\"t\" AS t WHERE c"))
    }
  }
}
