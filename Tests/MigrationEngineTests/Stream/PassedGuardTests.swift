import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// What the stream reports of changes that came although a fence stood.
@Suite struct PassedGuardTests {
  private static let columns = [StreamMessages.Column(name: "id", isKey: true)]

  private func planner(streaming: PgOutputStreaming = .off, isBehindMarker: Bool = false) -> ChangePlanner {
    let tables = ["a", "b", "c"].map { name in
      TargetTable(
        relation: .fixture(name, [("id", 25)]),
        uniqueIndexes: [
          UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])
        ], arrayForms: [25: .array(type: "text[]", delimiter: UInt8(ascii: ","), isPlain: false)], source: nil
      )
    }
    return ChangePlanner(
      tables: StreamTables(
        target: Dictionary(uniqueKeysWithValues: tables.map { ($0.relation.name, $0) }),
        snapshots: Dictionary(
          uniqueKeysWithValues: tables.enumerated().map {
            (UInt32($0 + 1), ($1.relation.name, LSN(rawValue: 100)))
          }), ignored: [], present: [], sourceLSN: .zero), streaming: streaming,
      isBehindMarker: isBehindMarker)
  }

  private func plan(
    _ planner: inout ChangePlanner, in lane: Lane = .main, _ write: (inout StreamMessages) -> Void
  ) throws -> ChunkPlan {
    var messages = StreamMessages()
    write(&messages)
    return try messages.bytes.withUnsafeBytes {
      try planner.plan($0, messages.ranges, in: lane, folding: true)
    }
  }

  private func insert(
    _ stream: inout StreamMessages, _ id: UInt32, _ name: String, at lsn: UInt64, origin: String? = nil
  ) {
    stream.begin(lsn)
    if let origin { stream.origin(origin) }
    stream.relation(id, name, Self.columns)
    stream.insert(id, [.text("\(lsn)")])
    stream.commit(lsn, end: lsn + 5)
  }

  private func mark(_ stream: inout StreamMessages, _ nonce: String, at lsn: UInt64) {
    stream.begin(lsn)
    stream.message("replicate.fence", nonce)
    stream.commit(lsn, end: lsn + 5)
  }

  @Test("Changes between two markers are distinguished from those after both")
  func between() throws {
    var planner = planner()
    let plan = try plan(&planner) { stream in
      insert(&stream, 1, "a", at: 200)
      mark(&stream, "first", at: 210)
      insert(&stream, 2, "b", at: 220, origin: "elsewhere")
      mark(&stream, "second", at: 230)
      insert(&stream, 3, "c", at: 240)
    }
    #expect(plan.changedBetweenMarkers.ids == [2] && plan.changedAfterMarker.ids == [3])
    #expect(plan.changesAfterMarker == 1)
    #expect(plan.replicationOrigins == ["elsewhere"])
  }

  @Test("An origin counts where it changed something, also in a transaction that is streamed")
  func origins() throws {
    var planner = planner(streaming: .on, isBehindMarker: true)
    let empty = try plan(&planner) { stream in
      stream.begin(200)
      stream.origin("idle")
      stream.commit(200, end: 205)
    }
    #expect(empty.replicationOrigins == [])
    let block = try plan(&planner, in: .streamed(7)) { stream in
      stream.block(7, isFirst: true) { block in
        block.origin("elsewhere")
        block.relation(1, "a", Self.columns)
        block.insert(1, [.text("1")])
      }
    }
    #expect(block.replicationOrigins == [] && block.changedAfterMarker.ids == [], "it may be rolled back")
    let end = try plan(&planner, in: .streamed(7)) { $0.streamCommit(7, 210, end: 215) }
    #expect(end.replicationOrigins == ["elsewhere"] && end.changedAfterMarker.ids == [1])
  }

  // MARK: The monitor

  private func monitor() -> StreamMonitor {
    StreamMonitor(
      feedback: Feedback(appliedLSN: .zero, confirmedLSN: .zero), transactions: 0, changes: 0, firstBeat: 0)
  }

  private func apply(
    _ monitor: StreamMonitor, between: Set<String> = [], after: Set<String> = [], marker: String? = nil
  ) {
    monitor.passing(.init(between: between, after: after, origins: ["o"]), marker: marker)
    monitor.committed(
      .init(
        endLSN: LSN(rawValue: 1),
        anchor: StreamAnchor(
          commitLSN: .zero, xid: 1, commitTime: PostgresTime(microseconds: 0)),
        transactions: 1, changes: 1, marker: marker))
    if !after.isEmpty { monitor.breached() }
  }

  @Test("What came before the fence's marker has passed no fence; what came after it is a breach")
  func firstMarker() {
    let monitor = monitor()
    apply(monitor, after: ["x"])
    monitor.expectMarker("first")
    apply(monitor, between: ["old"], after: ["x"])
    #expect(monitor.passed.isEmpty && !monitor.isBehindMarker)
    // An earlier cutover's marker lies before it in the same chunk.
    apply(monitor, between: ["old"], marker: "first")
    #expect(monitor.passed.isEmpty && !monitor.isBreached && monitor.isBehindMarker)
    apply(monitor, after: ["a"])
    #expect(monitor.passed.words == "a, by replication origin 'o'")
    #expect(monitor.isBreached)
  }

  @Test("What came between the markers is remembered for the second, and is no breach there")
  func secondMarker() {
    let monitor = monitor()
    monitor.expectMarker("first")
    apply(monitor, marker: "first")
    monitor.expectMarker("second", for: .again)
    apply(monitor, after: ["a"])
    apply(monitor, between: ["b"], after: ["c"], marker: "second")
    #expect(monitor.marker("second") == .committed)
    #expect(monitor.passed.tables == ["a", "b", "c"])
    monitor.expectMarker("of another cutover")
    #expect(monitor.passed.isEmpty)
  }

  @Test("After the seal what comes after a marker is no breach, and what came before it is not remembered")
  func markerBehindSeal() {
    let monitor = monitor()
    monitor.expectMarker("first")
    apply(monitor, marker: "first")
    monitor.expectMarker("anew", for: .seal)
    apply(monitor, after: ["a"])
    apply(monitor, between: ["b"], after: ["c"], marker: "anew")
    #expect(!monitor.isBreached && monitor.marker("anew") == .committed)
    #expect(monitor.passed.tables == ["c"])
  }

  @Test("Once it is held nothing is applied, and what comes is reported")
  func held() {
    let monitor = monitor()
    #expect(monitor.beginApplying() && monitor.isApplying)
    monitor.hold()
    #expect(monitor.isApplying, "what was begun goes on")
    monitor.endApplying()
    #expect(!monitor.beginApplying() && !monitor.isApplying)
    monitor.forgetMarker()
    #expect(!monitor.beginApplying(), "for good")
    monitor.leftBehind(.init(between: ["a"], after: ["b"], origins: []))
    #expect(monitor.leftBehind.words == "a, b")
  }

  @Test("Origins are remembered with the time of their last change, and not without end")
  func rememberedOrigins() {
    let monitor = monitor()
    #expect(monitor.saw(origin: "o") && !monitor.saw(origin: "o"))
    #expect(monitor.origins.map(\.name) == ["o"])
    #expect(monitor.origins.allSatisfy { $0.age < .seconds(60) })
    for number in 0..<200 { _ = monitor.saw(origin: "\(number)") }
    #expect(monitor.origins.count == 100)
  }
}
