import Testing

@testable import LogicalReplication

struct StreamedAndPreparedMessageTests {
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

  @Test func `prepared transactions`() throws {
    guard case .beginPrepare(let begin) = try decode("Begin Prepare"),
      case .prepare(let prepare) = try decode("Prepare"),
      case .commitPrepared(let commit) = try decode("Commit Prepared"),
      case .streamPrepare(let stream) = try decode("Stream Prepare")
    else {
      Issue.record("wrong kind")
      return
    }
    #expect(
      [begin.prepareLSN, prepare.prepareLSN, commit.commitLSN, stream.prepareLSN].allSatisfy {
        $0.rawValue == 0x10
      })
    #expect([begin.endLSN, prepare.endLSN, commit.endLSN, stream.endLSN].allSatisfy { $0.rawValue == 0x20 })
    let times = [begin.prepareTime, prepare.prepareTime, commit.commitTime, stream.prepareTime]
    #expect(times.allSatisfy { $0.microseconds == 30 })
    #expect([begin.xid, prepare.xid, commit.xid, stream.xid].allSatisfy { $0 == 700 })
    #expect([begin.gid, prepare.gid, commit.gid, stream.gid].allSatisfy { $0 == "gid" })
  }

  @Test func `Rollback Prepared`() throws {
    guard case .rollbackPrepared(let rollback) = try decode("Rollback Prepared") else {
      Issue.record("wrong kind")
      return
    }
    #expect(rollback.prepareEndLSN == LSN(rawValue: 0x10))
    #expect(rollback.rollbackEndLSN == LSN(rawValue: 0x20))
    #expect(rollback.prepareTime == PostgresTime(microseconds: 30))
    #expect(rollback.rollbackTime == PostgresTime(microseconds: 40))
    #expect(rollback.xid == 700)
    #expect(rollback.gid == "gid")
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
    for sample in SampleMessage.prepared {
      var decoder = PgOutputDecoder(version: .two, streaming: .on)
      let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(sample.bytes) }
      #expect(violation?.problem == .needsProtocolVersion(3))
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
    let streamPrepare = try #require(SampleMessage.prepared.last)
    for sample in SampleMessage.streams + [streamPrepare] {
      var decoder = PgOutputDecoder(version: .four, streaming: .off)
      let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(sample.bytes) }
      #expect(violation?.problem == .streamingNotRequested)
    }
  }
}
