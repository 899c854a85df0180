import Testing

@testable import LogicalReplication

/// What arrives damaged is refused, wherever the damage is.
struct DamagedMessageTests {
  @Test(arguments: SampleMessage.all)
  func `a whole message is accepted`(sample: SampleMessage) throws {
    var decoder = try sample.decoder()
    _ = try decoder.decode(sample.bytes)
  }

  @Test(arguments: SampleMessage.all)
  func `a message cut at any byte is refused`(sample: SampleMessage) throws {
    for length in 0..<sample.bytes.count {
      var decoder = try sample.decoder()
      #expect(throws: ProtocolViolation.self) { try decoder.decode(Array(sample.bytes[..<length])) }
      // The rest of the message lies behind the range and must not be touched.
      #expect(throws: ProtocolViolation.self) { try decoder.decode(sample.bytes, 0..<length) }
    }
  }

  @Test(arguments: SampleMessage.all)
  func `one byte more is refused`(sample: SampleMessage) throws {
    var decoder = try sample.decoder()
    let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(sample.bytes + [0]) }
    #expect(violation?.problem == .trailingBytes)
    #expect(violation?.offset == sample.bytes.count)
  }

  @Test func `only the known tags are accepted`() {
    let known = Set(SampleMessage.all.compactMap(\.bytes.first))
    #expect(known.count == 14)
    for tag in UInt8.min...UInt8.max where !known.contains(tag) {
      var decoder = PgOutputDecoder(version: .four, streaming: .on)
      let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode([tag]) }
      #expect(violation?.problem == .unknownMessage)
    }
  }

  @Test func `a range outside the buffer is refused`() {
    let bytes = SampleMessage.insert(xid: nil)
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    for range in [0..<(bytes.count + 1), -1..<bytes.count, Int.min..<Int.max, Int.max..<Int.max] {
      #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes, range) }
    }
  }

  @Test(arguments: [
    ("Commit", 1, "flags"), ("Message", 1, "transactional flag"), ("Truncate", 5, "TRUNCATE options"),
    ("Insert", 5, "tuple kind"), ("Insert", 8, "column kind"), ("Update", 5, "tuple kind"),
    ("Delete by key", 5, "tuple kind"), ("Relation", 20, "replica identity"),
    ("Relation", 23, "column flags"), ("Stream Start", 5, "first segment flag"),
    ("Stream Commit", 5, "flags"),
  ])
  func `an unknown value is refused`(name: String, offset: Int, field: String) throws {
    let sample = try #require(SampleMessage.all.first { $0.name == name })
    var bytes = sample.bytes
    bytes[offset] = 0x7F
    var decoder = try sample.decoder()
    let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes) }
    #expect(violation?.problem == .unknownValue(field: field))
  }

  @Test func `an update with two old rows or two new ones is refused`() {
    for kinds in ["KK", "OO", "KO", "NN", "K", "O"] as [String] {
      let bytes = MessageEncoder.message("U") { encoder in
        encoder.int(UInt32(1))
        for kind in kinds { encoder.tuple(kind, [.null]) }
      }
      var decoder = PgOutputDecoder(version: .one, streaming: .off)
      #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes) }
    }
  }

  @Test(arguments: [Int16.min, -1, 3, .max])
  func `a relation whose column count does not fit is refused`(count: Int16) throws {
    var bytes = SampleMessage.relation(xid: nil)
    bytes.replaceSubrange(21..<23, with: withUnsafeBytes(of: count.bigEndian) { Array($0) })
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes) }
  }

  @Test(arguments: [Int32.min, -1, 1, 3, .max])
  func `a truncate whose relation count does not fit is refused`(count: Int32) throws {
    var bytes = SampleMessage.truncate(xid: nil)
    bytes.replaceSubrange(1..<5, with: withUnsafeBytes(of: count.bigEndian) { Array($0) })
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes) }
  }

  @Test(arguments: [Int32.min, -1, 0, 2, .max])
  func `a value whose length does not fit is refused`(length: Int32) {
    let bytes = MessageEncoder.message("I") {
      $0.int(UInt32(1))
      $0.byte("N")
      $0.int(Int16(1))
      $0.byte("t")
      $0.int(length)
      $0.byte("x")
    }
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes) }
  }

  @Test func `a name that is not UTF-8 is refused`() {
    let bytes = MessageEncoder.message("O") {
      $0.int(UInt64(1))
      $0.int(UInt8(0xC3))
      $0.int(UInt8(0))
    }
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    let violation = #expect(throws: ProtocolViolation.self) { try decoder.decode(bytes) }
    #expect(violation?.problem == .invalidUTF8)
  }

  @Test func `columns read from another buffer stay inside it`() throws {
    let bytes = SampleMessage.insert(xid: nil)
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    guard case .insert(let insert) = try decoder.decode(bytes) else {
      Issue.record("wrong kind")
      return
    }
    #expect(insert.new.values(in: []).isEmpty)
    for length in 0..<bytes.count {
      #expect(insert.new.values(in: Array(bytes[..<length])).count < insert.new.columnCount)
    }
    #expect(insert.new.values(in: [UInt8](repeating: 0x62, count: 64)).isEmpty)
    #expect(insert.new.values(in: [UInt8](repeating: 0xFF, count: 64)).isEmpty)
    #expect(TupleData(bytes: -8..<8, columnCount: 3).values(in: bytes).isEmpty)
    #expect(TupleData(bytes: 0..<8, columnCount: -3).values(in: bytes).isEmpty)
  }
}
