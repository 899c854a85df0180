import Testing

@testable import LogicalReplication

struct ProtocolViolationTests {
  @Test func `says what is wrong, where, and what to read`() {
    let violation = ProtocolViolation(
      layer: .pgoutput, tag: UInt8(ascii: "I"), problem: .truncated(needed: 3), offset: 7, byteCount: 9)
    #expect(
      violation.description
        == """
        pgoutput message 'I': it ends too early, 3 more bytes were due, at byte 7 of 9 (PostgreSQL manual, \
        "Logical Streaming Replication Protocol" and "Logical Replication Message Formats", \
        55.5 and 55.9 in version 15)
        """)
  }

  @Test func `never repeats the payload`() throws {
    let secret = "hunter2"
    for sample in SampleMessage.all {
      var decoder = try sample.decoder()
      let bytes = sample.bytes + secret.utf8
      let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes) }
      #expect(try !#require(violation).description.contains(secret))
    }
  }

  @Test func `writes a tag that is no letter as a number`() {
    let violation = ProtocolViolation(
      layer: .streamingReplication, tag: 0, problem: .unknownMessage, offset: 1, byteCount: 1)
    #expect(violation.description.hasPrefix("replication message 0x0: it is of an unknown kind"))
  }
}
