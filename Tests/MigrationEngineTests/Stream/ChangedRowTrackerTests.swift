import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// What the stream remembers of the rows that it touched: conversations with the planner.
@Suite struct TouchMemoryTests {
  private static let columns = [StreamMessages.Column(name: "id", isKey: true, type: 23)]

  private func planner(_ memory: ChangedRowTracker, keyless: Bool = false) -> ChangePlanner {
    let table = TargetTable(
      relation: .fixture("notes", [("id", 23)]),
      uniqueIndexes: keyless
        ? []
        : [UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])],
      arrayForms: [:], source: nil)
    return ChangePlanner(
      tables: StreamTables(
        target: [table.relation.name: table], snapshots: [1: (table.relation.name, LSN(rawValue: 1))],
        ignored: [], present: [], sourceLSN: .zero), streaming: .on, memory: memory)
  }

  private func plan(
    _ planner: inout ChangePlanner, _ lane: Lane = .main, _ write: (inout StreamMessages) -> Void
  ) throws {
    var messages = StreamMessages()
    write(&messages)
    _ = try messages.bytes.withUnsafeBytes {
      try planner.plan($0, messages.ranges, in: lane, folding: true)
    }
  }

  private func transact(
    _ planner: inout ChangePlanner, at lsn: UInt64 = 20, identity: ReplicaIdentity = .primaryKey,
    _ write: (inout StreamMessages) -> Void
  ) throws {
    try plan(&planner) { stream in
      stream.begin(lsn)
      stream.relation(1, "notes", identity: identity, Self.columns)
      write(&stream)
      stream.commit(lsn, end: lsn + 1)
    }
  }

  /// The rows of the one table, by their keys; nil when all count as touched.
  private func touched(_ memory: ChangedRowTracker) throws -> [String]? {
    let tables = try #require(memory.touched).tables
    #expect(tables.allSatisfy { $0.name.name == "notes" })
    guard let table = tables.first else { return [] }
    guard case .keys(let batches) = table.rows else { return nil }
    return batches.flatMap { keys in
      (0..<keys.count).map { String(decoding: keys.value(row: $0, column: 0), as: UTF8.self) }
    }.sorted()
  }

  @Test("Keys of inserts, updates, changed keys and deletes, each once, and only since the comparison")
  func keys() throws {
    let memory = ChangedRowTracker()
    var planner = planner(memory)
    #expect(memory.touched == nil)
    try transact(&planner) { $0.insert(1, [.text("1")]) }
    memory.begin(at: LSN(rawValue: 5), TableVersions())
    #expect(memory.touched == nil, "the comparison is under way")
    try transact(&planner, at: 30) { stream in
      stream.insert(1, [.text("2")])
      stream.update(1, [.text("2")])
      stream.update(1, key: [.text("3")], [.text("4")])
      stream.delete(1, key: [.text("5")])
    }
    memory.keep(different: [:])
    #expect(memory.touched?.since == LSN(rawValue: 5))
    #expect(try touched(memory) == ["2", "3", "4", "5"])
    memory.begin(at: LSN(rawValue: 6), TableVersions())
    try transact(&planner, at: 40) { $0.insert(1, [.text("6")]) }
    memory.discard()
    #expect(try touched(memory) == ["2", "3", "4", "5", "6"], "without an end the one before holds")
    memory.begin(at: LSN(rawValue: 7), TableVersions())
    memory.keep(different: [:])
    #expect(try touched(memory) == [])
  }

  @Test("Where rows cannot be known, are too many or were found different, all of the table count")
  func all() throws {
    var limits = ChangedRowTracker.Limits()
    limits.rows = 2
    for write in [
      { stream in for id in 1...3 { stream.insert(1, [.text("\(id)")]) } },
      { stream in
        stream.insert(1, [.text("1")])
        stream.truncate([1])
      },
    ] as [(inout StreamMessages) -> Void] {
      let memory = ChangedRowTracker(limits: limits)
      var planner = planner(memory)
      memory.begin(at: LSN(rawValue: 5), TableVersions())
      try transact(&planner, write)
      memory.keep(different: [:])
      #expect(try touched(memory) == nil)
    }
    let memory = ChangedRowTracker()
    var keyless = planner(memory, keyless: true)
    memory.begin(at: LSN(rawValue: 5), TableVersions())
    try transact(&keyless, identity: .full) { $0.insert(1, [.text("1")]) }
    memory.keep(different: [:])
    #expect(try touched(memory) == nil)
    memory.begin(at: LSN(rawValue: 6), TableVersions())
    memory.keep(different: [1: RelationName(schema: "public", name: "notes")])
    #expect(try touched(memory) == nil)
  }

  @Test("Memory is bounded in bytes as well")
  func bytes() throws {
    var limits = ChangedRowTracker.Limits()
    limits.bytes = 1000
    let memory = ChangedRowTracker(limits: limits)
    var planner = planner(memory)
    memory.begin(at: LSN(rawValue: 5), TableVersions())
    memory.keep(different: [:])
    try transact(&planner) { $0.insert(1, [.text("1")]) }
    #expect(try touched(memory) == ["1"])
    try transact(&planner, at: 30) { $0.insert(1, [.text(String(repeating: "7", count: 600))]) }
    #expect(try touched(memory) == nil)
  }

  @Test("What a streamed transaction had done before the comparison counts when it commits after it")
  func streamed() throws {
    let memory = ChangedRowTracker()
    var planner = planner(memory)
    try plan(&planner, .streamed(7)) { stream in
      stream.block(7, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("1")])
      }
    }
    memory.begin(at: LSN(rawValue: 5), TableVersions())
    try plan(&planner, .streamed(8)) { stream in
      stream.block(8, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("2")])
      }
    }
    memory.keep(different: [:])
    try plan(&planner, .streamed(8)) { $0.streamCommit(8, 30, end: 31) }
    #expect(try touched(memory) == ["2"], "one that began after it is known row by row")
    try plan(&planner, .streamed(7)) { $0.streamCommit(7, 40, end: 41) }
    #expect(try touched(memory) == nil)
  }
}
