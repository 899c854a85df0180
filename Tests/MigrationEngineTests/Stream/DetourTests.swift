import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// Changes of tables whose owners have other settings than the session: conversations with the planner.
@Suite struct DetourTests {
  private static let columns = [StreamMessages.Column(name: "id", isKey: true, type: 23)]
  private static let key = UniqueIndex(
    isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])

  private func planner(streaming: PgOutputStreaming = .off) -> ChangePlanner {
    var other = Relation.fixture("other", [("id", 23)])
    other.owner = "other"
    let tables = [Relation.fixture("main", [("id", 23)]), other].map {
      TargetTable(relation: $0, uniqueIndexes: [Self.key], arrayForms: [:], source: nil)
    }
    var all = StreamTables(
      target: Dictionary(uniqueKeysWithValues: tables.map { ($0.relation.name, $0) }),
      snapshots: [
        1: (tables[0].relation.name, LSN(rawValue: 1)), 2: (tables[1].relation.name, LSN(rawValue: 1)),
      ], ignored: [], present: [], sourceLSN: .zero)
    all.settings = UserSettings(
      everyone: [:], roles: ["other": ["search_path": "other"]], ownSchemas: [], mainOwner: "")
    return ChangePlanner(tables: all, streaming: streaming)
  }

  private func statements(
    _ planner: inout ChangePlanner, in lane: Lane = .main, folding: Bool,
    _ write: (inout StreamMessages) -> Void
  ) throws -> [String] {
    var messages = StreamMessages()
    write(&messages)
    let plan = try messages.bytes.withUnsafeBytes {
      try planner.plan($0, messages.ranges, in: lane, folding: folding)
    }
    return plan.batch.calls.map { call in
      let sql = plan.batch.statements[call.statement]
      if sql.contains("set_config") { return sql.contains(#"'"other"'"#) ? "enter" : "leave" }
      return sql.split(separator: " ").prefix(3).joined(separator: " ")
    }
  }

  private static let main = #"INSERT INTO "public"."main""#
  private static let other = #"INSERT INTO "public"."other""#

  @Test("One by one, the settings change where the table does, and are the session's again at the end")
  func oneByOne() throws {
    var planner = planner()
    let statements = try statements(&planner, folding: false) { stream in
      stream.begin(20)
      stream.relation(1, "main", Self.columns)
      stream.relation(2, "other", Self.columns)
      stream.insert(1, [.text("1")])
      stream.insert(2, [.text("1")])
      stream.insert(2, [.text("2")])
      stream.insert(1, [.text("2")])
      stream.insert(2, [.text("3")])
      stream.commit(20, end: 21)
    }
    #expect(
      statements == [
        "BEGIN", Self.main, "enter", Self.other, Self.other, "leave", Self.main, "enter", Self.other, "leave",
      ])
  }

  @Test("Folded, they change once a table")
  func folded() throws {
    var planner = planner()
    let statements = try statements(&planner, folding: true) { stream in
      stream.begin(20)
      stream.relation(1, "main", Self.columns)
      stream.relation(2, "other", Self.columns)
      for id in 1...3 {
        stream.insert(2, [.text("\(id)")])
        stream.insert(1, [.text("\(id)")])
      }
      stream.insert(1, [.text("9")])
      stream.commit(20, end: 21)
    }
    #expect(
      statements
        == ["BEGIN", "enter"] + Array(repeating: Self.other, count: 3) + ["leave"]
        + Array(repeating: Self.main, count: 4))
  }

  @Test("A savepoint that may be rolled back to is set under the session's settings")
  func savepoints() throws {
    var planner = planner(streaming: .on)
    let statements = try statements(&planner, in: .streamed(7), folding: false) { stream in
      stream.block(7, isFirst: true) { stream in
        stream.relation(2, "other", Self.columns)
        stream.insert(2, [.text("1")])
        stream.xid = 8
        stream.insert(2, [.text("2")])
      }
    }
    #expect(
      statements.map { $0.hasPrefix("SAVEPOINT") ? "SAVEPOINT" : $0 } == [
        "BEGIN", "enter", Self.other, "leave", "SAVEPOINT", "enter", Self.other, "leave",
      ])
  }
}
