import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// Messages in a stream of protocol version 1, whose server sends the transaction that wrote one, and no
/// message.
struct SentMessagesTests {
  private static let table: UInt32 = 16384

  private func planner(_ messages: SentMessages?) -> ChangePlanner {
    var tables = StreamTables(
      target: [:], snapshots: [:], ignored: [Self.table], present: [Self.table], sourceLSN: .zero)
    tables.version = .one
    return ChangePlanner(tables: tables, messages: messages)
  }

  private func plan(_ planner: inout ChangePlanner, xid: UInt32, at lsn: UInt64) throws -> ChunkPlan {
    var stream = StreamMessages()
    stream.begin(lsn, xid: xid)
    stream.commit(lsn, end: lsn + 10)
    return try stream.bytes.withUnsafeBytes { try planner.plan($0, stream.ranges, folding: true) }
  }

  private func messages(_ prefix: String, _ content: String, xid: UInt32, lsn: UInt64) -> SentMessages {
    let messages = SentMessages()
    messages.note(.init(prefix: prefix, content: content, lsn: LSN(rawValue: lsn)), of: xid)
    return messages
  }

  @Test func `the transaction that wrote the fence's marker is the marker, and no other is`() throws {
    var planner = planner(messages(MessagePrefix.fence, "4711", xid: 9, lsn: 100))
    let other = try plan(&planner, xid: 8, at: 90)
    #expect(other.commit == nil && !planner.hasSeenMarker)
    let marker = try plan(&planner, xid: 9, at: 120)
    #expect(marker.commit?.marker == "4711" && planner.hasSeenMarker)
  }

  @Test func `a transaction that committed before the message was written has only its number`() throws {
    var planner = planner(messages(MessagePrefix.fence, "4711", xid: 9, lsn: 500))
    let before = try plan(&planner, xid: 9, at: 120)
    #expect(before.commit == nil && !planner.hasSeenMarker)
    let marker = try plan(&planner, xid: 9, at: 510)
    #expect(marker.commit?.marker == "4711")
  }

  @Test func `heartbeats come, and messages for others' purposes mean nothing`() throws {
    var beats = planner(messages(MessagePrefix.heartbeat, "77", xid: 9, lsn: 100))
    #expect(try plan(&beats, xid: 9, at: 120).heartbeats == [77])
    var snapshot = planner(messages(MessagePrefix.snapshot, "", xid: 9, lsn: 100))
    let plan = try plan(&snapshot, xid: 9, at: 120)
    #expect(plan.heartbeats.isEmpty && !snapshot.hasSeenMarker)
  }

  @Test func `what is applied is forgotten, and what is too much goes from its oldest end`() {
    let messages = SentMessages()
    func note(_ number: UInt32) {
      messages.note(.init(prefix: "p", content: "", lsn: LSN(rawValue: UInt64(number))), of: number)
    }
    func knows(_ number: UInt32) -> Bool {
      messages.message(of: number, committedAt: LSN(rawValue: .max)) != nil
    }
    for number in 1...10 { note(UInt32(number)) }
    messages.forget(before: LSN(rawValue: 6))
    #expect(!knows(5) && knows(6))
    for number in 11...10_010 { note(UInt32(number)) }
    #expect(!knows(6) && knows(11) && knows(10_010))
  }
}
