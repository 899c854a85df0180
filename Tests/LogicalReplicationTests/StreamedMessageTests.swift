import Testing

@testable import LogicalReplication

struct StreamedMessageTests {
  private func decode(_ name: String) throws -> PgOutputMessage {
    let sample = try #require(SampleMessage.all.first { $0.name == name })
    var decoder = try sample.decoder()
    return try decoder.decode(sample.bytes)
  }

  @Test func `Stream Start and Stream Commit`() throws {
    guard case .streamStart(let start) = try decode("Stream Start"),
      case .streamCommit(let commit) = try decode("Stream Commit")
    else {
      Issue.record("wrong kind")
      return
    }
    #expect(start.xid == 700)
    #expect(start.isFirstSegment)
    #expect(commit.xid == 700)
    #expect(commit.commitLSN == LSN(rawValue: 0x10))
    #expect(commit.endLSN == LSN(rawValue: 0x20))
    #expect(commit.commitTime == PostgresTime(microseconds: 30))
  }

  @Test func `Stream Abort has a position only in parallel streaming`() throws {
    guard case .streamAbort(let plain) = try decode("Stream Abort"),
      case .streamAbort(let parallel) = try decode("Stream Abort in parallel")
    else {
      Issue.record("wrong kind")
      return
    }
    #expect(plain.xid == 700)
    #expect(plain.subtransactionXID == 701)
    #expect(plain.position == nil)
    #expect(parallel.subtransactionXID == 701)
    #expect(parallel.position?.abortLSN == LSN(rawValue: 0x1_0000_0010))
    #expect(parallel.position?.abortTime == PostgresTime(microseconds: 77))
  }

  @Test func `an xid is read only between Stream Start and Stream Stop`() throws {
    var decoder = PgOutputDecoder(version: .two, streaming: .on)
    _ = try decoder.decode(SampleMessage.streamStart)
    #expect(decoder.isInStream)
    guard case .insert(let inside) = try decoder.decode(SampleMessage.insert(xid: 701)) else {
      Issue.record("wrong kind")
      return
    }
    #expect(try decoder.decode(MessageEncoder.message("E")) == .streamStop)
    #expect(!decoder.isInStream)
    guard case .insert(let outside) = try decoder.decode(SampleMessage.insert(xid: nil)) else {
      Issue.record("wrong kind")
      return
    }
    #expect(inside.xid == 701)
    #expect(outside.xid == nil)
  }

  @Test func `Origin inside a stream has no xid`() throws {
    let origin = try #require(SampleMessage.all.first { $0.name == "Origin" })
    var decoder = PgOutputDecoder(version: .two, streaming: .on)
    _ = try decoder.decode(SampleMessage.streamStart)
    guard case .origin(let message) = try decoder.decode(origin.bytes) else {
      Issue.record("wrong kind")
      return
    }
    #expect(message.name == "elsewhere")
  }

  @Test(arguments: SampleMessage.all.filter { !$0.isInStream && $0.bytes.first != UInt8(ascii: "O") })
  func `nothing but changes may appear inside a stream`(sample: SampleMessage) throws {
    let changes: [Character] = ["M", "R", "Y", "I", "U", "D", "T"]
    let tag = try #require(sample.bytes.first)
    guard !changes.contains(Character(Unicode.Scalar(tag))) else { return }
    var decoder = PgOutputDecoder(version: .four, streaming: sample.streaming)
    _ = try decoder.decode(SampleMessage.streamStart)
    let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(sample.bytes) }
    #expect(violation?.problem == .notAllowedInsideStream)
    #expect(decoder.isInStream)
  }

  @Test func `Stream Stop outside a stream is refused`() {
    var decoder = PgOutputDecoder(version: .two, streaming: .on)
    let violation = #expect(throws: ProtocolViolation.self) {
      try decoder.decode(MessageEncoder.message("E"))
    }
    #expect(violation?.problem == .notAllowedOutsideStream)
  }

  @Test func `a damaged Stream Start does not open a stream`() {
    var decoder = PgOutputDecoder(version: .two, streaming: .on)
    #expect(throws: ProtocolViolation.self) { try decoder.decode(SampleMessage.streamStart + [0]) }
    #expect(!decoder.isInStream)
  }

  @Test func `messages of later versions are refused`() {
    for sample in SampleMessage.streams {
      var decoder = PgOutputDecoder(version: .one, streaming: .on)
      let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(sample.bytes) }
      #expect(violation?.problem == .needsProtocolVersion(2))
    }
  }

  @Test(arguments: SampleMessage.all)
  func `each message is read the same in every version that has it`(sample: SampleMessage) throws {
    let latest = try message(of: sample, in: .four)
    for version in [PgOutputVersion.one, .two, .three] where version >= sample.firstVersion {
      #expect(try message(of: sample, in: version) == latest)
    }
  }

  private func message(of sample: SampleMessage, in version: PgOutputVersion) throws -> PgOutputMessage {
    var decoder = PgOutputDecoder(version: version, streaming: sample.streaming)
    if sample.isInStream { _ = try decoder.decode(SampleMessage.streamStart) }
    return try decoder.decode(sample.bytes)
  }

  @Test func `streams are refused when none were requested`() throws {
    for sample in SampleMessage.streams {
      var decoder = PgOutputDecoder(version: .four, streaming: .off)
      let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(sample.bytes) }
      #expect(violation?.problem == .streamingNotRequested)
    }
  }
}
