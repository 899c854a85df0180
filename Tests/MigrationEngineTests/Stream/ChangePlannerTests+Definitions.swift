import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// What the planner makes of tables that are not what they were.
extension ChangePlannerTests {
  @Test(
    "What does not fit stops the stream and is named",
    arguments: [
      ("a rename", 1, "renamed", columns, "RENAME TO \"renamed\""),
      ("a new column", 1, "notes", columns + [.init(name: "extra")], "the source has column \"extra\""),
      ("a dropped column", 1, "notes", [columns[0]], "the target has column \"body\""),
      ("another type", 1, "notes", [columns[0], .init(name: "body", type: 20)], "type"),
      (
        "another key", 1, "notes", [.init(name: "id", type: 23), .init(name: "body", isKey: true)],
        "no unique index"
      ),
    ] as [(String, UInt32, String, [StreamMessages.Column], String)])
  func differences(
    _ what: String, _ id: UInt32, _ name: String, _ columns: [StreamMessages.Column], _ reason: String
  ) throws {
    var planner = planner()
    let thrown = #expect(throws: (any Error).self) {
      try plan(&planner) { stream in
        stream.begin(200)
        stream.commit(200, end: 210)
        stream.begin(220)
        stream.relation(id, name, columns)
      }
    }
    let difference = try #require(thrown as? DefinitionDifference)
    #expect(difference.wholeMessages == 2, "what came before can be applied")
    #expect(difference.error.description.contains(reason), "\(what): \(difference.error)")
    #expect(difference.error.remedy != nil)
    #expect(!difference.isOutdated, "nothing is known of what the source has by now")
  }

  @Test("A table that is not copied yet is left alone: its copy will have the changes")
  func notCopied() throws {
    var tables = StreamTables(
      target: [:], snapshots: [:], ignored: [], present: [9], sourceLSN: LSN(rawValue: 1))
    func insert(_ stream: inout StreamMessages) {
      stream.begin(200)
      stream.relation(9, "later", Self.columns)
      stream.insert(9, [.text("1"), .null])
      stream.commit(200, end: 210)
    }
    var forward = ChangePlanner(tables: tables)
    #expect(try !plan(&forward, insert).hasChanges)
    // In reverse replication nothing is copied.
    tables.direction = .back
    var back = ChangePlanner(tables: tables)
    let thrown = #expect(throws: DefinitionDifference.self) { try plan(&back, insert) }
    #expect(thrown?.isNewTable == true)
  }

  @Test("A table of which neither end has what the stream has is copied again")
  func outdated() throws {
    let now = Relation.fixture("notes", [("id", 23), ("renamed", 25)])
    var target = TargetTable(
      relation: now,
      uniqueIndexes: [
        UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])
      ], arrayForms: Self.forms, source: now)
    func difference() -> DefinitionDifference? {
      var planner = ChangePlanner(
        tables: StreamTables(
          target: [now.name: target], snapshots: [1: (now.name, LSN(rawValue: 1))], ignored: [],
          present: [1], sourceLSN: LSN(rawValue: 300)))
      return #expect(throws: DefinitionDifference.self) {
        try plan(&planner) { stream in
          stream.begin(200)
          stream.relation(1, "notes", Self.columns)
        }
      }
    }
    #expect(difference()?.isOutdated == true)
    target.difference = TableDifference(reason: "known", remedy: "do that", isToBeCopied: false)
    let known = difference()
    #expect(known?.isOutdated == false)
    #expect(known?.error.description.contains("do that") == true)
  }

  @Test("Changes of a table that the source has dropped since, and the target lacks, are left out")
  func droppedTable() throws {
    var planner = ChangePlanner(
      tables: StreamTables(
        target: [:], snapshots: [1: (RelationName(schema: "public", name: "notes"), LSN(rawValue: 1))],
        ignored: [], present: [2], sourceLSN: LSN(rawValue: 300)))
    for (id, lsn) in [(1, 200), (9, 210)] as [(UInt32, UInt64)] {
      let plan = try plan(&planner) { stream in
        stream.begin(lsn)
        stream.relation(id, "notes", Self.columns)
        stream.insert(id, [.text("1"), .null])
        stream.commit(lsn, end: lsn + 10)
      }
      #expect(!plan.hasChanges)
    }
  }

  @Test("A target that is as the source is by now does not differ, however far behind the stream is")
  func targetAhead() throws {
    let now = Relation.fixture("notes", [("id", 20), ("body", 25), ("later", 25)])
    let target = TargetTable(
      relation: now,
      uniqueIndexes: [
        UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])
      ], arrayForms: Self.forms, source: now)
    func planner(readAt lsn: UInt64, mark: String = "") -> ChangePlanner {
      var tables = StreamTables(
        target: [now.name: target], snapshots: [1: (now.name, LSN(rawValue: 1))], ignored: [],
        present: [1], sourceLSN: LSN(rawValue: lsn))
      tables.catalogMark = mark
      return ChangePlanner(tables: tables)
    }
    func before(_ stream: inout StreamMessages) {
      stream.begin(200)
      stream.relation(1, "before", Self.columns)
      stream.insert(1, [.text("1"), .text("x")])
    }
    var ahead = planner(readAt: 201)
    let plan = try plan(&ahead, before)
    // What the source was before the transaction says nothing of it.
    var stale = planner(readAt: 200)
    #expect(throws: DefinitionDifference.self) { try self.plan(&stale, before) }
    // So it is once the message has come that was written before the source was read, and not another's.
    for (mark, isOurs) in [("7", true), ("8", false)] {
      var marked = planner(readAt: .max, mark: "7")
      _ = try self.plan(&marked) { $0.message(MessagePrefix.catalog, mark, isTransactional: false) }
      if isOurs {
        #expect(throws: DefinitionDifference.self) { try self.plan(&marked, before) }
      } else {
        #expect(try self.plan(&marked, before).hasChanges)
      }
    }
    #expect(statements(plan).first?.hasPrefix("INSERT INTO \"public\".\"notes\" (\"id\", \"body\")") == true)
  }

  @Test("What a table was before its copy is nobody's concern, and what it was since is looked at")
  func beforeTheCopy() throws {
    var planner = planner(snapshot: 300)
    func change(_ lsn: UInt64, _ columns: [StreamMessages.Column]?) throws -> ChunkPlan {
      try plan(&planner) { stream in
        stream.begin(lsn)
        if let columns { stream.relation(1, "notes", columns) }
        stream.insert(1, (columns ?? Self.columns).map { _ in .text("1") })
        stream.commit(lsn, end: lsn + 10)
      }
    }
    #expect(try !change(200, Self.columns + [.init(name: "old")]).hasChanges)
    #expect(try !change(220, Self.columns).hasChanges)
    // Described once, before the copy.
    #expect(try change(300, nil).hasChanges)
  }
}
