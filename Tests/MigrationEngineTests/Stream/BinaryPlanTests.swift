import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// Rows that come in binary: what is decided, what is planned, what is refused.
@Suite struct BinaryPlanTests {
  private static let name = RelationName(schema: "public", name: "notes")
  private static let equality = "OPERATOR(pg_catalog.=)"

  /// `notes (id int PRIMARY KEY, body text[], size domain)` on both ends, `size` generated if asked for.
  private func tables(
    source: (inout Relation) -> Void = { _ in }, target: (inout Relation) -> Void = { _ in }
  ) -> StreamTables {
    var theirs = Relation.fixture("notes", [("id", 23), ("body", 1009), ("size", 20_000)])
    theirs.columns[2].wireTypeOID = 20
    theirs.columns[2].isDomain = true
    var ours = theirs
    ours.columns[2].typeOID = 30_000
    ours.rowTypeOID = 40_000
    source(&theirs)
    target(&ours)
    let table = TargetTable(
      relation: ours,
      uniqueIndexes: [UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: Self.equality)])],
      arrayForms: [
        23: .array(type: "integer[]", delimiter: UInt8(ascii: ","), isPlain: true),
        1009: .texts(cast: "text[]"),
      ], source: theirs)
    return StreamTables(
      target: [Self.name: table], snapshots: [1: (Self.name, LSN(rawValue: 100))], ignored: [],
      present: [1], sourceLSN: .zero)
  }

  private static let columns = [
    StreamMessages.Column(name: "id", isKey: true, type: 23), .init(name: "body", type: 1009),
    .init(name: "size", type: 20_000),
  ]

  private func plan(
    _ tables: StreamTables, folding: Bool = true, columns: [StreamMessages.Column] = columns,
    _ write: (inout StreamMessages) -> Void
  ) throws -> (plan: ChunkPlan, planner: ChangePlanner) {
    var tables = tables
    tables.form = StreamForm.best(for: tables).form
    #expect(tables.form.format == .binary)
    var planner = ChangePlanner(tables: tables)
    var messages = StreamMessages()
    messages.begin(200)
    messages.relation(1, "notes", columns)
    write(&messages)
    messages.commit(200, end: 210)
    let plan = try messages.bytes.withUnsafeBytes {
      try planner.plan($0, messages.ranges, folding: folding)
    }
    return (plan, planner)
  }

  private func id(_ number: Int) -> StreamMessages.Value { .binary([0, 0, 0, UInt8(number)]) }

  // MARK: What is decided

  @Test("Binary it is when every column is exact in it on both ends, whatever the domains are called")
  func portable() {
    #expect(StreamForm.best(for: tables()).form.format == .binary)
  }

  @Test(
    "One column that is not makes everything travel as text, and is named",
    arguments: [(2205, 2205, "the OID of an object"), (16_500, 16_500, "of users"), (23, 20, "two types")]
      as [(UInt32, UInt32, String)])
  func obstacle(_ source: UInt32, _ target: UInt32, _ what: String) {
    let tables = tables {
      $0.columns[1].wireTypeOID = source
    } target: {
      $0.columns[1].wireTypeOID = target
    }
    let best = StreamForm.best(for: tables)
    #expect(best.form.format == .text, "\(what)")
    #expect(best.obstacle?.contains(#"column "body" of table "public"."notes""#) == true)
  }

  @Test("What the source computes is not sent, so it does not matter")
  func generated() {
    let tables = tables {
      $0.columns[2].isGenerated = true
      $0.columns[2].wireTypeOID = 2205
    }
    #expect(StreamForm.best(for: tables).form.format == .binary)
  }

  // MARK: What is planned

  @Test(
    "Updates of many rows are one array of the table's row type, deletes an array of keys, inserts a COPY")
  func sets() throws {
    let (plan, _) = try plan(tables()) { stream in
      for row in 0..<40 { stream.delete(1, key: [id(row), .null, .null]) }
      for row in 40..<80 { stream.update(1, [id(row), .binary([0]), .null]) }
      for row in 80..<120 { stream.insert(1, [id(row), .null, .binary([7])]) }
    }
    let calls = plan.batch.calls.dropFirst()
    #expect(
      calls.map { plan.batch.statements[$0.statement] } == [
        """
        DELETE FROM ONLY "public"."notes" AS t USING ROWS FROM (pg_catalog.unnest($1::integer[])) AS v (c1) \
        WHERE t."id" OPERATOR(pg_catalog.=) v.c1
        """,
        """
        UPDATE ONLY "public"."notes" AS t SET "body" = v."body", "size" = v."size" \
        FROM pg_catalog.unnest($1::"public"."notes"[]) AS v WHERE t."id" OPERATOR(pg_catalog.=) v."id"
        """,
      ])
    #expect(calls.map(\.expectedRows) == [40, 40])
    let parameters = calls.flatMap { plan.batch.values(of: $0) }
    // An array's head is 20 bytes; a key is 8; a row's head 8, each column's 8.
    let updateBytes = 20 + 40 * (8 + 8 + 4 + 8 + 1 + 8)
    #expect(parameters.map { $0?.count } == [340, updateBytes])
    #expect(
      plan.copies.map(\.sql) == [
        #"COPY "public"."notes" ("id", "body", "size") FROM STDIN WITH (FORMAT binary)"#
      ])
    let copyBytes = 19 + 40 * (2 + 8 + 4 + 5) + 2
    #expect(plan.copies.first?.bytes.count == copyBytes)
  }

  @Test("A column that may refuse NULL and whose value did not come keeps its rows out of arrays")
  func domain() throws {
    let (unchanged, _) = try plan(tables()) { stream in
      for row in 0..<40 { stream.update(1, [id(row), .null, .unchanged]) }
    }
    #expect(unchanged.batch.calls.count == 41)
    let generated = tables {
      $0.columns[2].isGenerated = true
    } target: {
      $0.columns[2].isGenerated = true
    }
    let (computed, _) = try plan(generated, columns: Array(Self.columns.prefix(2))) { stream in
      for row in 0..<40 { stream.update(1, [id(row), .null]) }
    }
    #expect(computed.batch.calls.count == 41)
  }

  @Test("Changes one by one bind each value in binary")
  func alone() throws {
    let (plan, planner) = try plan(tables(), folding: false) { stream in
      stream.insert(1, [id(1), .null, .binary([0, 0])])
      stream.delete(1, key: [id(1), .null, .null])
    }
    let calls = Array(plan.batch.calls.dropFirst())
    #expect(plan.batch.values(of: calls[0]) == [[0, 0, 0, 1], nil, [0, 0]])
    // Bytes are no key that anybody could read.
    let change = try #require(plan.origins[2])
    #expect(planner.key(of: change, in: ["\u{0}"]) == nil)
  }

  // MARK: What is refused

  @Test(
    "A relation that is, or was, of another type than the target's is refused: its rows must come as text",
    arguments: [20_001, 25, 2206] as [UInt32])
  func otherType(type: UInt32) {
    // The source itself is what it should be by now.
    #expect(throws: BinaryRefusal.self) {
      try plan(tables(), columns: [Self.columns[0], Self.columns[1], .init(name: "size", type: type)]) { _ in
      }
    }
  }

  @Test("A value in another form than was asked for is never taken for one")
  func otherForm() {
    for folding in [false, true] {
      #expect(throws: MigrationError.self) {
        try plan(tables(), folding: folding) { stream in
          for row in 0..<40 { stream.insert(1, [id(row), .text("{}"), .null]) }
        }
      }
    }
  }
}
