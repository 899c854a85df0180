import Testing

@testable import LogicalReplication

struct ReplicationFrameTests {
  static let xLogData = MessageEncoder.message("w") {
    $0.int(UInt64(0x10))
    $0.int(UInt64(0x20))
    $0.int(Int64(-30))
    $0.string("payload")
  }

  static let keepalive = MessageEncoder.message("k") {
    $0.int(UInt64(0x20))
    $0.int(Int64(30))
    $0.int(UInt8(1))
  }

  private func frame(_ bytes: [UInt8], _ range: Range<Int>? = nil) throws(ProtocolViolation)
    -> ReplicationFrame
  {
    let outcome = bytes.withUnsafeBytes { buffer in
      Result { () throws(ProtocolViolation) in try ReplicationFrame(buffer, range ?? 0..<bytes.count) }
    }
    return try outcome.get()
  }

  @Test func `reads XLogData and says where the payload lies`() throws {
    let padded = [9, 9] + Self.xLogData + [9]
    guard case .xLogData(let data) = try frame(padded, 2..<(padded.count - 1)) else {
      Issue.record("not XLogData")
      return
    }
    #expect(data.startLSN == LSN(rawValue: 0x10))
    #expect(data.serverLSN == LSN(rawValue: 0x20))
    #expect(data.sendTime == PostgresTime(microseconds: -30))
    #expect(Array(padded[data.payload]) == Array("payload\0".utf8))
  }

  @Test func `reads a keepalive`() throws {
    guard case .primaryKeepalive(let keepalive) = try frame(Self.keepalive) else {
      Issue.record("not a keepalive")
      return
    }
    #expect(keepalive.serverLSN == LSN(rawValue: 0x20))
    #expect(keepalive.sendTime == PostgresTime(microseconds: 30))
    #expect(keepalive.replyRequested)
  }

  @Test func `refuses frames that are cut, too long, unknown or outside the buffer`() throws {
    for length in 0..<Self.keepalive.count {
      #expect(throws: ProtocolViolation.self) { try frame(Array(Self.keepalive[..<length])) }
    }
    for length in 0..<25 {
      #expect(throws: ProtocolViolation.self) { try frame(Array(Self.xLogData[..<length])) }
    }
    #expect(throws: ProtocolViolation.self) { try frame(Self.keepalive + [0]) }
    #expect(throws: ProtocolViolation.self) { try frame(Array(Self.keepalive.dropLast()) + [2]) }
    #expect(throws: ProtocolViolation.self) { try frame([UInt8(ascii: "s")] + Self.keepalive.dropFirst()) }
    #expect(throws: ProtocolViolation.self) { try frame(Self.keepalive, 0..<(Self.keepalive.count + 1)) }
    #expect(throws: ProtocolViolation.self) { try frame(Self.keepalive, -1..<3) }
  }

  @Test func `a status update is 34 bytes in network order`() {
    let update = StandbyStatusUpdate(
      writtenLSN: LSN(rawValue: 0x0102_0304_0506_0708), flushedLSN: LSN(rawValue: 0x10),
      appliedLSN: LSN(rawValue: 0x20), clock: PostgresTime(microseconds: -2), replyRequested: true)
    let expected: [UInt8] =
      [0x72, 1, 2, 3, 4, 5, 6, 7, 8] + [0, 0, 0, 0, 0, 0, 0, 0x10] + [0, 0, 0, 0, 0, 0, 0, 0x20]
      + [255, 255, 255, 255, 255, 255, 255, 254, 1]
    #expect(update.encoded == expected)
  }
}
