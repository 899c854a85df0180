import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// Transactions that come before they have committed: conversations with the planner.
@Suite struct StreamedTransactionTests {
  private static let columns = [StreamMessages.Column(name: "id", isKey: true, type: 23)]

  private func planner() -> ChangePlanner {
    let table = TargetTable(
      relation: .fixture("notes", [("id", 23)]),
      uniqueIndexes: [
        UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])
      ], arrayForms: [:], source: nil)
    return ChangePlanner(
      tables: StreamTables(
        target: [table.relation.name: table], snapshots: [1: (table.relation.name, LSN(rawValue: 1))],
        ignored: [], present: [], sourceLSN: .zero), streaming: .on)
  }

  private func plan(
    _ planner: inout ChangePlanner, _ lane: Lane, _ write: (inout StreamMessages) -> Void
  ) throws -> ChunkPlan {
    var messages = StreamMessages()
    write(&messages)
    return try messages.bytes.withUnsafeBytes {
      try planner.plan($0, messages.ranges, in: lane, folding: true)
    }
  }

  private func verbs(_ plan: ChunkPlan) -> [String] {
    plan.batch.calls.map { String(plan.batch.statements[$0.statement].prefix { $0 != " " }) }
  }

  @Test("Each has its own transaction on the target, which its end commits with its position")
  func lanes() throws {
    var planner = planner()
    let first = try plan(&planner, .streamed(7)) { stream in
      stream.block(7, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("1")])
      }
    }
    #expect(first.lane == .streamed(7))
    #expect(verbs(first) == ["BEGIN", "INSERT"])
    #expect(first.commit == nil)
    let other = try plan(&planner, .main) { stream in
      stream.begin(20, xid: 8)
      stream.relation(1, "notes", Self.columns)
      stream.insert(1, [.text("2")])
      stream.commit(20, end: 21)
      stream.keepalive(25)
    }
    #expect(verbs(other) == ["BEGIN", "INSERT"])
    #expect(other.commit?.endLSN == LSN(rawValue: 21))
    // What is open comes again from its beginning when it commits later than that.
    #expect(other.idleLSN == LSN(rawValue: 25))
    let second = try plan(&planner, .streamed(7)) { stream in
      stream.block(7) { $0.delete(1, key: [.text("1")]) }
    }
    #expect(verbs(second) == ["SAVEPOINT", "DELETE"])
    let end = try plan(&planner, .streamed(7)) { $0.streamCommit(7, 30, end: 31) }
    #expect(!end.hasChanges)
    #expect(!end.beginsTransaction)
    #expect(
      end.commit
        == .init(endLSN: LSN(rawValue: 31), anchor: .fixture(30), transactions: 1, changes: 2, marker: nil))
    // What it said of its relations holds for those after it.
    #expect(throws: Never.self) {
      try plan(&planner, .main) { stream in
        stream.begin(40)
        stream.insert(1, [.text("3")])
        stream.commit(40, end: 41)
      }
    }
  }

  @Test("Of one that changed nothing here only the position is reported; of one that was rolled back nothing")
  func emptyAndRolledBack() throws {
    var planner = planner()
    _ = try plan(&planner, .streamed(7)) { $0.block(7, isFirst: true) { $0.message("somebody", "x") } }
    let empty = try plan(&planner, .streamed(7)) { $0.streamCommit(7, 30, end: 31) }
    #expect(empty.commit == nil)
    #expect(empty.idleLSN == LSN(rawValue: 31))
    _ = try plan(&planner, .streamed(8)) { stream in
      stream.block(8, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("1")])
      }
    }
    let gone = try plan(&planner, .streamed(8)) { $0.streamAbort(8) }
    #expect(gone.rollback == .transaction)
    #expect(gone.commit == nil)
    // Its word of a relation went with it.
    #expect(throws: MigrationError.self) {
      try plan(&planner, .main) { stream in
        stream.begin(40)
        stream.insert(1, [.text("3")])
      }
    }
  }

  @Test("A subtransaction has a savepoint, to which its rollback goes back with all that came later")
  func subtransactions() throws {
    var planner = planner()
    let plan = try plan(&planner, .streamed(7)) { stream in
      stream.block(7, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("1")])
        for xid in [UInt32(8), 9] {
          stream.xid = xid
          stream.insert(1, [.text("\(xid)")])
        }
        stream.xid = 8
        stream.insert(1, [.text("10")])
      }
    }
    #expect(verbs(plan) == ["BEGIN", "INSERT", "SAVEPOINT", "INSERT", "SAVEPOINT", "INSERT", "INSERT"])
    #expect(plan.keepsSavepoint)
    let unknown = try self.plan(&planner, .streamed(7)) { $0.streamAbort(7, 99) }
    #expect(unknown.rollback == nil)
    let undone = try self.plan(&planner, .streamed(7)) { $0.streamAbort(7, 8) }
    #expect(undone.rollback == .to(savepoint: "replicate_subtransaction_8"))
    let inner = try self.plan(&planner, .streamed(7)) { $0.streamAbort(7, 9) }
    #expect(inner.rollback == nil, "it went with the one around it")
    let end = try self.plan(&planner, .streamed(7)) { $0.streamCommit(7, 30, end: 31) }
    #expect(end.commit?.changes == 1)
  }

  @Test("One with too many subtransactions is refused, to be applied once it has committed")
  func tooManySubtransactions() throws {
    var planner = planner()
    #expect(throws: StreamingRefusal.self) {
      try plan(&planner, .streamed(7)) { stream in
        stream.block(7, isFirst: true) { stream in
          stream.relation(1, "notes", Self.columns)
          for xid in 0...UInt32(Subtransactions.limit) {
            stream.xid = 100 + xid
            stream.insert(1, [.text("\(xid)")])
          }
        }
      }
    }
  }

  @Test("Changes of one that commits after the fence's marker are a breach, whenever they came")
  func marker() throws {
    var planner = planner()
    _ = try plan(&planner, .streamed(7)) { stream in
      stream.block(7, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("1")])
      }
    }
    let marked = try plan(&planner, .main) { stream in
      stream.begin(20)
      stream.message("replicate.fence", "nonce")
      stream.commit(20, end: 21)
    }
    #expect(marked.changesAfterMarker == 0)
    let late = try plan(&planner, .streamed(7)) { $0.streamCommit(7, 30, end: 31) }
    #expect(late.changesAfterMarker == 1)
  }

  @Test("Blocks and ends that do not follow from what came are refused")
  func protocolErrors() throws {
    for write in [
      { $0.block(7) { _ in } },
      { $0.streamCommit(7, 30, end: 31) },
      { $0.streamAbort(7) },
    ] as [(inout StreamMessages) -> Void] {
      var planner = planner()
      #expect(throws: MigrationError.self) { try plan(&planner, .streamed(7), write) }
    }
    var planner = planner()
    #expect(throws: MigrationError.self) {
      try plan(&planner, .streamed(8)) { $0.block(7, isFirst: true) { _ in } }
    }
  }
}
