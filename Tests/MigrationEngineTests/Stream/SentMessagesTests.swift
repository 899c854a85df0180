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

  private func messages(_ prefix: String, _ content: String, xid: UInt32) -> SentMessages {
    let messages = SentMessages()
    messages.note(.init(prefix: prefix, content: content), of: xid)
    return messages
  }

  @Test func `the transaction that wrote the fence's marker is the marker, and no other is`() throws {
    var planner = planner(messages(MessagePrefix.fence, "4711", xid: 9))
    let other = try plan(&planner, xid: 8, at: 90)
    #expect(other.commit == nil && !planner.hasSeenMarker)
    let marker = try plan(&planner, xid: 9, at: 120)
    #expect(marker.commit?.marker == "4711" && planner.hasSeenMarker)
  }

  @Test func `heartbeats come, and messages for others' purposes mean nothing`() throws {
    var beats = planner(messages(MessagePrefix.heartbeat, "77", xid: 9))
    #expect(try plan(&beats, xid: 9, at: 120).heartbeats.map(\.number) == [77])
    var snapshot = planner(messages(MessagePrefix.snapshot, "", xid: 9))
    let plan = try plan(&snapshot, xid: 9, at: 120)
    #expect(plan.heartbeats.isEmpty && !snapshot.hasSeenMarker)
  }

  @Test func `what is too much goes from its oldest end`() {
    let messages = SentMessages()
    for number in 1...UInt32(20_001) {
      messages.note(.init(prefix: "p", content: "\(number)"), of: number)
    }
    #expect(messages.message(of: 1) == nil && messages.message(of: 10_001) == nil)
    #expect(messages.message(of: 10_002)?.content == "10002")
    #expect(messages.message(of: 20_001)?.content == "20001")
  }
}
