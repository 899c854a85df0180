import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// Where a stream begins, and whether its source is the one that was followed.
@Suite struct StreamStartTests {
  private func start(applied: UInt64, anchor: UInt64?, stored: UInt64, slot: UInt64) -> StreamStart {
    StreamStart(
      StoredProgress(
        appliedLSN: LSN(rawValue: applied), anchor: anchor.map { .fixture($0) },
        confirmedLSN: LSN(rawValue: stored)), slot: LSN(rawValue: slot))
  }

  @Test("A slot that is confirmed up to what is applied proves its source")
  func proven() {
    for slot in [UInt64(110), 130] {
      let start = start(applied: 110, anchor: 100, stored: 140, slot: slot)
      #expect(start.position.rawValue == slot)
      #expect(start.confirmedLSN.rawValue == slot)
      #expect(!start.expectsAnchor)
    }
  }

  @Test("One that is not begins with the anchor, and nothing is confirmed before that has come")
  func anchored() {
    let start = start(applied: 110, anchor: 100, stored: 140, slot: 80)
    #expect(start.position.rawValue == 100)
    #expect(start.confirmedLSN.rawValue == 80)
    #expect(start.expectsAnchor)
  }

  @Test("Before the first transaction the slot's beginning stands for it")
  func first() {
    let forward = start(applied: 50, anchor: nil, stored: 50, slot: 50)
    #expect(forward.position.rawValue == 50)
    // Reverse replication begins after its slot.
    let back = start(applied: 70, anchor: nil, stored: 70, slot: 50)
    #expect(back.position.rawValue == 70)
    #expect(back.confirmedLSN.rawValue == 70)
    #expect(!back.expectsAnchor)
  }

  @Test("A source whose WAL ends before what is applied is refused")
  func flushed() throws {
    let history = SourceHistory(timeline: 1, flushedLSN: LSN(rawValue: 100))
    try history.verify(reaches: LSN(rawValue: 100), .forward)
    let refusal = #expect(throws: OtherHistory.self) {
      try history.verify(reaches: LSN(rawValue: 101), .forward)
    }
    let words = refusal?.error.description ?? ""
    #expect(
      words.contains("the source was restored to an earlier time, or is another server: its WAL ends at 0/64")
    )
    #expect(words.contains("replicate abort --drop-target-data"))
    let back = #expect(throws: OtherHistory.self) {
      try history.verify(reaches: LSN(rawValue: 101), .back)
    }
    #expect(back?.error.description.contains("run replicate finish") == true)
  }
}

/// What the planner makes of a source that sends again, or sends something else.
@Suite struct AnchorTests {
  private static let columns = [StreamMessages.Column(name: "id", isKey: true, type: 23)]

  /// The target has transaction 7, which committed at 100 and ended at 110; the table was copied at 50, its
  /// neighbour at `other`.
  private func planner(
    slot: UInt64 = 80, other: UInt64 = 50, isBehindMarker: Bool = false
  ) -> ChangePlanner {
    func table(_ name: String) -> TargetTable {
      TargetTable(
        relation: .fixture(name, [("id", 23)]),
        uniqueIndexes: [
          UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])
        ], arrayForms: [:], source: nil)
    }
    let (notes, others) = (table("notes"), table("others"))
    let progress = StoredProgress(
      appliedLSN: LSN(rawValue: 110), anchor: .fixture(100, time: 5), confirmedLSN: LSN(rawValue: 110))
    return ChangePlanner(
      tables: StreamTables(
        target: [notes.relation.name: notes, others.relation.name: others],
        snapshots: [
          1: (notes.relation.name, LSN(rawValue: 50)), 2: (others.relation.name, LSN(rawValue: other)),
        ],
        ignored: [], present: [], sourceLSN: .zero),
      from: StreamStart(progress, slot: LSN(rawValue: slot)), streaming: .on, isBehindMarker: isBehindMarker)
  }

  private func plan(
    _ planner: inout ChangePlanner, _ lane: Lane = .main, _ write: (inout StreamMessages) -> Void
  ) throws -> ChunkPlan {
    var messages = StreamMessages()
    write(&messages)
    return try messages.bytes.withUnsafeBytes {
      try planner.plan($0, messages.ranges, in: lane, folding: true)
    }
  }

  private func sendAnchor(_ stream: inout StreamMessages) {
    stream.begin(100, time: 5)
    stream.relation(1, "notes", Self.columns)
    stream.insert(1, [.text("1")])
    stream.commit(100, end: 110)
  }

  @Test("The anchor comes again and is skipped; what is after it is applied")
  func again() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      stream.keepalive(80)
      sendAnchor(&stream)
      stream.begin(120, xid: 8)
      stream.insert(1, [.text("2")])
      stream.commit(120, end: 130)
      stream.keepalive(140)
    }
    #expect(plan.batch.calls.count == 2)
    #expect(
      plan.commit
        == .init(endLSN: LSN(rawValue: 130), anchor: .fixture(120, xid: 8), transactions: 1, changes: 1))
    #expect(plan.idleLSN.rawValue == 140)
  }

  @Test("The anchor alone proves what is applied, and changes nothing")
  func alone() throws {
    var planner = planner()
    let plan = try plan(&planner) { sendAnchor(&$0) }
    #expect(!plan.hasChanges)
    #expect(plan.commit == nil)
    #expect(plan.idleLSN.rawValue == 110)
  }

  @Test("A change after the fence's marker is a breach in the next run, too, but not what comes again")
  func behindMarker() throws {
    var planner = planner(isBehindMarker: true)
    #expect(try plan(&planner) { sendAnchor(&$0) }.changesAfterMarker == 0)
    let late = try plan(&planner) { stream in
      stream.begin(120, xid: 8)
      stream.insert(1, [.text("2")])
      stream.commit(120, end: 130)
    }
    #expect(late.changesAfterMarker == 1)
  }

  @Test("What the table was then is no matter: it is looked at with the first change that is applied")
  func oldDefinition() throws {
    var planner = planner()
    let old = Self.columns + [.init(name: "gone")]
    _ = try plan(&planner) { stream in
      stream.begin(100, time: 5)
      stream.relation(1, "notes", old)
      stream.insert(1, [.text("1"), .text("x")])
      stream.commit(100, end: 110)
    }
    var other = planner
    let difference = #expect(throws: DefinitionDifference.self) {
      try plan(&other) { stream in
        stream.begin(120, xid: 8)
        stream.insert(1, [.text("2"), .text("x")])
      }
    }
    #expect(difference?.message?.columns.count == 2)
    #expect(difference?.lsn.rawValue == 120)
    let next = try plan(&planner) { stream in
      stream.begin(120, xid: 8)
      stream.relation(1, "notes", Self.columns)
      stream.insert(1, [.text("2")])
      stream.commit(120, end: 130)
    }
    #expect(next.commit?.changes == 1)
  }

  @Test(
    "Another transaction in its place is another history",
    arguments: [(100, 8, 5), (100, 7, 6), (105, 7, 5), (120, 8, 9)] as [(UInt64, UInt32, Int64)])
  func another(_ found: (lsn: UInt64, xid: UInt32, time: Int64)) {
    var planner = planner()
    let refusal = #expect(throws: OtherHistory.self) {
      try plan(&planner) { $0.begin(found.lsn, xid: found.xid, time: found.time) }
    }
    #expect(refusal?.error.reason.contains("in place of transaction 7, committed at 0/64") == true)
    var streaming = self.planner()
    _ = try? plan(&streaming, .streamed(8)) { $0.block(8, isFirst: true) { $0.message("somebody", "x") } }
    #expect(throws: OtherHistory.self) {
      try plan(&streaming, .streamed(8)) { $0.streamCommit(8, 120, end: 130) }
    }
  }

  @Test("So is a source that has read on without it")
  func missing() throws {
    var planner = planner()
    _ = try plan(&planner) { $0.keepalive(109) }
    #expect(throws: OtherHistory.self) { try plan(&planner) { $0.keepalive(110) } }
    // A slot that was confirmed up to there needs no proof.
    var proven = self.planner(slot: 110)
    let next = try plan(&proven) { $0.keepalive(130) }
    #expect(next.idleLSN.rawValue == 130)
  }

  @Test("An anchor that is streamed is not applied before its end shows who it is")
  func streamed() throws {
    var planner = planner()
    let first = try plan(&planner, .streamed(7)) { stream in
      stream.block(7, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.insert(1, [.text("1")])
        stream.xid = 9
        stream.insert(1, [.text("2")])
      }
    }
    #expect(!first.hasChanges)
    let end = try plan(&planner, .streamed(7)) { $0.streamCommit(7, 100, end: 110, time: 5) }
    #expect(end.commit == nil)
    #expect(end.rollback == nil)
    #expect(end.idleLSN.rawValue == 110)
    // What it said of its table holds for those after it.
    let next = try plan(&planner) { stream in
      stream.begin(120, xid: 8)
      stream.insert(1, [.text("3")])
      stream.commit(120, end: 130)
    }
    #expect(next.commit?.changes == 1)
  }

  @Test("Of a streamed transaction of which nothing is left nothing stays on the target")
  func rolledBack() throws {
    var planner = planner(slot: 110)
    _ = try plan(&planner, .streamed(8)) { stream in
      stream.block(8, isFirst: true) { stream in
        stream.relation(1, "notes", Self.columns)
        stream.xid = 9
        stream.insert(1, [.text("2")])
      }
    }
    let undone = try plan(&planner, .streamed(8)) { $0.streamAbort(8, 9) }
    #expect(undone.rollback == .to(savepoint: "replicate_subtransaction_9"))
    let end = try plan(&planner, .streamed(8)) { $0.streamCommit(8, 120, end: 130) }
    // No server is sure to send it again, so it must not become the anchor.
    #expect(end.commit == nil)
    #expect(end.rollback == .transaction)
    #expect(end.idleLSN.rawValue == 130)
  }

  @Test("One that is streamed and turns out to be in a table's copy is refused before it is committed")
  func inTheCopy() throws {
    func streams(_ table: UInt32, _ name: String, until commit: UInt64) throws -> ChunkPlan {
      var planner = planner(slot: 110, other: 200)
      _ = try plan(&planner, .streamed(8)) { stream in
        stream.block(8, isFirst: true) { stream in
          stream.relation(table, name, Self.columns)
          stream.insert(table, [.text("2")])
        }
      }
      return try plan(&planner, .streamed(8)) { $0.streamCommit(8, commit, end: commit + 10) }
    }
    let refusal = #expect(throws: StreamingRefusal.self) { try streams(2, "others", until: 190) }
    #expect(refusal?.until?.rawValue == 200)
    #expect(try streams(2, "others", until: 200).commit?.changes == 1)
    #expect(try streams(1, "notes", until: 190).commit?.changes == 1)
  }

  @Test("The first transaction after a newer snapshot that is sure to be sent again becomes the anchor")
  func behindTheSnapshot() throws {
    var planner = planner(slot: 110, other: 200)
    func beat(_ lsn: UInt64) throws -> ChunkPlan {
      try plan(&planner) { stream in
        stream.begin(lsn, xid: UInt32(lsn))
        stream.message("replicate.heartbeat", "1")
        stream.commit(lsn, end: lsn + 10)
      }
    }
    #expect(try beat(190).commit == nil)
    let first = try beat(200)
    #expect(
      first.commit
        == .init(endLSN: LSN(rawValue: 210), anchor: .fixture(200, xid: 200), transactions: 0, changes: 0))
    #expect(try beat(210).commit == nil)
  }
}
