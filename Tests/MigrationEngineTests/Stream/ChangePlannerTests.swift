import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// Chunks in, statements out: conversations with the planner.
@Suite struct ChangePlannerTests {
  static let columns = [
    StreamMessages.Column(name: "id", isKey: true, type: 23), StreamMessages.Column(name: "body"),
  ]

  func planner(snapshot: UInt64 = 100, ignored: Set<UInt32> = []) -> ChangePlanner {
    let table = TargetTable(
      relation: .fixture("notes", [("id", 23), ("body", 25)]),
      uniqueIndexes: [
        UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])
      ], arrayForms: Self.forms, source: nil)
    let bare = TargetTable(
      relation: .fixture("bare", [("a", 25), ("b", 114)]), uniqueIndexes: [], arrayForms: Self.forms,
      source: nil)
    return ChangePlanner(
      tables: StreamTables(
        target: [table.relation.name: table, bare.relation.name: bare],
        snapshots: [
          1: (table.relation.name, LSN(rawValue: snapshot)), 2: (bare.relation.name, LSN(rawValue: snapshot)),
        ], ignored: ignored, present: [], sourceLSN: .zero))
  }

  static let forms: [UInt32: ArrayForm] = [
    23: .array(type: "integer[]", delimiter: UInt8(ascii: ","), isPlain: true),
    25: .array(type: "text[]", delimiter: UInt8(ascii: ","), isPlain: false),
    114: .array(type: "json[]", delimiter: UInt8(ascii: ","), isPlain: false),
  ]

  func plan(
    _ planner: inout ChangePlanner, folding: Bool = false, _ write: (inout StreamMessages) -> Void
  ) throws -> ChunkPlan {
    var messages = StreamMessages()
    write(&messages)
    return try messages.bytes.withUnsafeBytes { try planner.plan($0, messages.ranges, folding: folding) }
  }

  /// All but the first, which begins the transaction or sets the savepoint.
  func statements(_ plan: ChunkPlan) -> [String] {
    calls(plan).map { plan.batch.statements[$0.statement] }
  }

  private func calls(_ plan: ChunkPlan) -> [StatementBatch.Call] { Array(plan.batch.calls.dropFirst()) }

  @Test("Each kind of change becomes one statement that must touch one row")
  func changes() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      stream.insert(1, [.text("1"), .null])
      stream.update(1, [.text("1"), .text("x")])
      stream.delete(1, key: [.text("1"), .null])
      stream.commit(200, end: 210)
    }
    #expect(
      statements(plan) == [
        """
        INSERT INTO "public"."notes" ("id", "body") OVERRIDING SYSTEM VALUE VALUES ($1, $2)
        """,
        """
        UPDATE ONLY "public"."notes" SET "body" = $1 WHERE "id" OPERATOR(pg_catalog.=) $2::pg_catalog.text
        """,
        """
        DELETE FROM ONLY "public"."notes" WHERE "id" OPERATOR(pg_catalog.=) $1::pg_catalog.text
        """,
      ])
    #expect(calls(plan).allSatisfy { $0.expectedRows == 1 })
    #expect(plan.batch.texts(of: calls(plan)[0]) == ["1", nil])
    #expect(plan.batch.texts(of: calls(plan)[1]) == ["x", "1"])
    #expect(
      plan.commit
        == .init(endLSN: LSN(rawValue: 210), anchor: .fixture(200), transactions: 1, changes: 3, marker: nil))
  }

  @Test("An update of the key finds the old one and sets the new one")
  func keyChange() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      stream.update(1, key: [.text("1"), .null], [.text("2"), .unchanged])
    }
    #expect(
      statements(plan) == [
        """
        UPDATE ONLY "public"."notes" SET "id" = $1 WHERE "id" OPERATOR(pg_catalog.=) $2::pg_catalog.text
        """
      ])
    #expect(plan.batch.texts(of: calls(plan)[0]) == ["2", "1"])
    #expect(plan.commit == nil)
    #expect(planner.isInTransaction)
  }

  @Test("An update that sets nothing must still find its row")
  func emptyUpdate() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      stream.update(1, [.text("1"), .unchanged])
    }
    #expect(
      statements(plan) == [
        "SELECT FROM ONLY \"public\".\"notes\" WHERE \"id\" OPERATOR(pg_catalog.=) $1::pg_catalog.text"
      ])
    #expect(calls(plan).first?.expectedRows == 1)
  }

  @Test("A table without any key is searched by whole rows: equal ones, the same if it is there")
  func fullIdentity() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      stream.begin(200)
      stream.relation(
        2, "bare", identity: .full, [.init(name: "a", isKey: true), .init(name: "b", isKey: true, type: 114)])
      stream.delete(2, old: [.text("x"), .null])
    }
    #expect(
      statements(plan) == [
        """
        DELETE FROM ONLY "public"."bare" WHERE ctid OPERATOR(pg_catalog.=) \
        (SELECT ctid FROM ONLY "public"."bare" WHERE \
        ("a" OPERATOR(pg_catalog.=) $1::pg_catalog.text OR "a" IS NULL AND $1::pg_catalog.text IS NULL) AND \
        ("b" IS NULL AND $2::pg_catalog.text IS NULL OR "b" IS NOT NULL AND \
        $2::pg_catalog.text IS NOT NULL AND \
        pg_catalog.format('%s', "b") COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) \
        pg_catalog.format('%s', $2::pg_catalog.text)) ORDER BY ROW("a", "b")::pg_catalog.record \
        OPERATOR(pg_catalog.*=) ROW($1::pg_catalog.text, $2::pg_catalog.text)::pg_catalog.record DESC LIMIT 1)
        """
      ])
  }

  @Test("Changes of transactions that the table's copy has already are left out")
  func snapshot() throws {
    var planner = planner(snapshot: 200)
    let plan = try plan(&planner) { stream in
      stream.begin(199)
      stream.relation(1, "notes", Self.columns)
      stream.insert(1, [.text("1"), .null])
      stream.commit(199, end: 200)
      stream.begin(200)
      stream.insert(1, [.text("2"), .null])
      stream.commit(200, end: 201)
    }
    #expect(calls(plan).map(plan.batch.texts) == [["2", nil]])
    #expect(plan.commit?.transactions == 1)
    #expect(plan.idleLSN == LSN(rawValue: 200))
  }

  /// What 40 changes of each kind come to.
  @Test("Many rows become one statement a kind of change, and inserts a COPY")
  func sets() throws {
    var planner = planner()
    let plan = try plan(&planner, folding: true) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      for row in 0..<40 { stream.delete(1, key: [.text("\(row)"), .null]) }
      for row in 40..<80 { stream.update(1, [.text("\(row)"), .text(row == 41 ? #"a"\b"# : "x")]) }
      for row in 80..<120 { stream.insert(1, [.text("\(row)"), row == 81 ? .null : .text("a\tb\\\n")]) }
      stream.commit(200, end: 210)
    }
    #expect(
      statements(plan) == [
        """
        DELETE FROM ONLY "public"."notes" AS t USING ROWS FROM (pg_catalog.unnest($1::integer[])) AS v (c1) \
        WHERE t."id" OPERATOR(pg_catalog.=) v.c1
        """,
        """
        UPDATE ONLY "public"."notes" AS t SET "body" = v.c1 FROM ROWS FROM (pg_catalog.unnest($1::text[]), \
        pg_catalog.unnest($2::integer[])) AS v (c1, c2) WHERE t."id" OPERATOR(pg_catalog.=) v.c2
        """,
      ])
    #expect(calls(plan).map(\.expectedRows) == [40, 40])
    let parameters = calls(plan).flatMap { plan.batch.texts(of: $0) }
    #expect(parameters.first == "{\((0..<40).map(String.init).joined(separator: ","))}")
    #expect(parameters[1]?.hasPrefix(#"{"x","a\"\\b","x","#) == true)
    #expect(
      plan.copies.map(\.sql) == [#"COPY "public"."notes" ("id", "body") FROM STDIN WITH (FORMAT text)"#])
    #expect(plan.copies.map(\.rowCount) == [40])
    let text = String(decoding: plan.copies.first?.bytes ?? [], as: UTF8.self)
    #expect(text.hasPrefix("80\ta\\tb\\\\\\n\n81\t\\N\n"))
    #expect(plan.commit?.changes == 120)
    #expect(plan.isFolded)
  }

  @Test("Few rows stay one statement each, in the order deletes, updates, inserts")
  func few() throws {
    var planner = planner()
    let plan = try plan(&planner, folding: true) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      stream.insert(1, [.text("1"), .text("a")])
      stream.update(1, [.text("1"), .unchanged])
      stream.update(1, [.text("2"), .text("b")])
      stream.delete(1, key: [.text("3"), .null])
      stream.insert(1, [.text("4"), .text("c")])
      stream.delete(1, key: [.text("4"), .null])
    }
    #expect(statements(plan).map { $0.prefix(6) } == ["DELETE", "UPDATE", "INSERT"])
    #expect(calls(plan).map(plan.batch.texts) == [["3"], ["b", "2"], ["1", "a"]])
    #expect(plan.copies.isEmpty)
  }

  @Test("TRUNCATE lets nothing pass: what came before it goes first, what comes after later")
  func truncateOrder() throws {
    var planner = planner()
    let plan = try plan(&planner, folding: true) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      stream.insert(1, [.text("1"), .null])
      stream.truncate([1])
      stream.insert(1, [.text("1"), .null])
    }
    #expect(statements(plan).map { $0.prefix(6) } == ["INSERT", "TRUNCA", "INSERT"])
  }

  @Test("A transaction in several chunks is begun once, and each later part can be undone alone")
  func parts() throws {
    var planner = planner()
    var firsts: [String] = []
    var commits: [Bool] = []
    for part in 0..<4 {
      let plan = try plan(&planner) { stream in
        if part == 0 {
          stream.begin(200)
          stream.relation(1, "notes", Self.columns)
        }
        stream.insert(1, [.text("\(part)"), .null])
        if part == 2 {
          stream.commit(200, end: 210)
          stream.begin(220)
          stream.commit(220, end: 230)
        }
        if part == 3 { stream.keepalive(500) }
      }
      firsts.append(plan.batch.calls.first.map { plan.batch.statements[$0.statement] } ?? "")
      commits.append(plan.commit != nil)
      if part == 2 {
        _ = try self.plan(&planner) { $0.begin(230) }
      }
      if part == 3 { #expect(plan.idleLSN == .zero, "a keepalive inside a transaction says nothing") }
    }
    #expect(firsts == ["BEGIN", "SAVEPOINT replicate_chunk", "SAVEPOINT replicate_chunk", "BEGIN"])
    #expect(commits == [false, false, true, false])
  }

  @Test("A part of a transaction after a whole one is refused: they cannot be committed together")
  func openTail() throws {
    var planner = planner()
    #expect(throws: MigrationError.self) {
      try plan(&planner) { stream in
        stream.begin(200)
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("1"), .null])
        stream.commit(200, end: 210)
        stream.begin(220, xid: 8)
        stream.insert(1, [.text("2"), .null])
      }
    }
  }

  @Test("A keepalive outside of transactions, and an empty transaction, move the idle position")
  func idle() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      stream.begin(200)
      stream.commit(200, end: 210)
      stream.keepalive(300)
    }
    #expect(plan.idleLSN == LSN(rawValue: 300))
    #expect(plan.commit == nil)
  }

  @Test("The fence's marker is committed on the target, and what comes after it is counted")
  func marker() throws {
    var planner = planner()
    let first = try plan(&planner) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      stream.insert(1, [.text("1"), .null])
      stream.commit(200, end: 210)
      stream.begin(220)
      stream.message("replicate.fence", "nonce")
      stream.commit(220, end: 230)
    }
    #expect(
      first.commit
        == .init(
          endLSN: LSN(rawValue: 230), anchor: .fixture(220), transactions: 2, changes: 1, marker: "nonce"))
    #expect(first.changesAfterMarker == 0)
    let second = try plan(&planner) { stream in
      stream.begin(240)
      stream.insert(1, [.text("2"), .null])
    }
    #expect(second.changesAfterMarker == 1)
  }

  @Test("Heartbeats are reported in order")
  func heartbeats() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      for (beat, lsn) in [("7", 200), ("8", 210)] as [(String, UInt64)] {
        stream.begin(lsn)
        stream.message("replicate.heartbeat", beat)
        stream.commit(lsn, end: lsn + 10)
      }
    }
    #expect(plan.heartbeats.map(\.number) == [7, 8])
  }

  @Test("TRUNCATE names the tables of this migration, and their partitioned roots are ignored")
  func truncate() throws {
    var planner = planner(ignored: [3])
    let plan = try plan(&planner) { stream in
      stream.begin(200)
      stream.relation(1, "notes", Self.columns)
      stream.relation(
        2, "bare", identity: .full, [.init(name: "a", isKey: true), .init(name: "b", isKey: true, type: 114)])
      stream.relation(3, "root", Self.columns)
      stream.truncate([3, 1, 2])
      stream.commit(200, end: 210)
    }
    #expect(statements(plan) == ["TRUNCATE ONLY \"public\".\"notes\", ONLY \"public\".\"bare\""])
  }

  @Test("Under REPLICA IDENTITY FULL, where the source calls every column a key, an UPDATE sets the others")
  func fullIdentityWithKey() throws {
    let columns = Self.columns.map { StreamMessages.Column(name: $0.name, isKey: true, type: $0.type) }
    for folding in [true, false] {
      var planner = planner()
      let plan = try plan(&planner, folding: folding) { stream in
        stream.begin(200)
        stream.relation(1, "notes", identity: .full, columns)
        stream.update(1, old: [.text("1"), .text("x")], [.text("1"), .text("y")])
        stream.commit(200, end: 210)
      }
      let statement = statements(plan).first ?? ""
      #expect(statement.hasPrefix("UPDATE ") && statement.contains("\"body\" = $"), "\(statement)")
    }
  }

  @Test("A change outside of a transaction, of an unknown relation or of the wrong width is refused")
  func protocolErrors() throws {
    var outside = planner()
    #expect(throws: MigrationError.self) { try plan(&outside) { $0.insert(1, []) } }
    var unknown = planner()
    #expect(throws: MigrationError.self) {
      try plan(&unknown) {
        $0.begin(200)
        $0.insert(1, [])
      }
    }
    var narrow = planner()
    #expect(throws: MigrationError.self) {
      try plan(&narrow) {
        $0.begin(200)
        $0.relation(1, "notes", Self.columns)
        $0.insert(1, [.text("1")])
      }
    }
    for (commit, end) in [(201, 202), (200, 200), (200, 100)] as [(UInt64, UInt64)] {
      var other = planner()
      #expect(throws: MigrationError.self, "\(commit) \(end)") {
        try plan(&other) {
          $0.begin(200)
          $0.commit(commit, end: end)
        }
      }
    }
  }

  @Test("A source whose positions go back sends a transaction again, and is refused")
  func backwards() throws {
    var planner = planner()
    let first = try plan(&planner) {
      $0.begin(200)
      $0.commit(200, end: 210)
    }
    #expect(first.idleLSN == LSN(rawValue: 210))
    for lsn in [150, 200, 209] as [UInt64] {
      var copy = planner
      #expect(throws: MigrationError.self, "\(lsn)") {
        try plan(&copy) {
          $0.begin(lsn)
          $0.commit(lsn, end: lsn + 100)
        }
      }
    }
    #expect(
      try plan(&planner) {
        $0.begin(210)
        $0.commit(210, end: 220)
      }.idleLSN == LSN(rawValue: 220))
  }
}

extension Relation {
  /// A table of schema public whose columns are all plain.
  static func fixture(_ name: String, _ columns: [(name: String, type: UInt32)]) -> Relation {
    Relation(
      oid: 0, name: RelationName(schema: "public", name: name), kind: .table, isPartition: false,
      isUnlogged: false, replicaIdentity: .primaryKey, hasUsableIdentity: true, bytes: 0, estimatedRows: 0,
      columns: columns.map {
        Column(
          name: $0.name, type: "text", typeOID: $0.type, wireTypeOID: $0.type, identity: .none,
          isGenerated: false)
      })
  }
}
