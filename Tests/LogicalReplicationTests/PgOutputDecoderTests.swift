import Testing

@testable import LogicalReplication

/// Every message is written by the encoder of these tests and read back by the decoder.
struct PgOutputDecoderTests {
  private func decode(_ name: String) throws -> (message: PgOutputMessage, bytes: [UInt8]) {
    let sample = try #require(SampleMessage.all.first { $0.name == name })
    var decoder = try sample.decoder()
    return (try decoder.decode(sample.bytes), sample.bytes)
  }

  @Test func `Begin and Commit`() throws {
    guard case .begin(let begin) = try decode("Begin").message,
      case .commit(let commit) = try decode("Commit").message
    else {
      Issue.record("wrong kind")
      return
    }
    #expect(begin.finalLSN == LSN(rawValue: 0x16_B374_D848))
    #expect(begin.commitTime == PostgresTime(microseconds: -5))
    #expect(begin.xid == 700)
    #expect(commit.commitLSN == LSN(rawValue: 0x10))
    #expect(commit.endLSN == LSN(rawValue: 0x20))
    #expect(commit.commitTime == PostgresTime(microseconds: 30))
  }

  @Test func `Origin`() throws {
    guard case .origin(let origin) = try decode("Origin").message else {
      Issue.record("wrong kind")
      return
    }
    #expect(origin.originLSN == LSN(rawValue: 0xABCD))
    #expect(origin.name == "elsewhere")
  }

  @Test(arguments: [nil, UInt32(701)])
  func `Message`(xid: UInt32?) throws {
    let (decoded, bytes) = try decode(xid == nil ? "Message" : "Message in a stream")
    guard case .logicalMessage(let message) = decoded else {
      Issue.record("wrong kind")
      return
    }
    #expect(message.xid == xid)
    #expect(message.isTransactional)
    #expect(message.lsn == LSN(rawValue: 0x20))
    #expect(message.prefix == "prefix")
    #expect(Array(bytes[message.content]) == [1, 2, 3])
  }

  @Test(arguments: [nil, UInt32(701)])
  func `Relation`(xid: UInt32?) throws {
    let expected = RelationMessage(
      xid: xid, relationID: 16_385, schema: "public", name: "Bücher", replicaIdentity: .primaryKey,
      columns: [
        .init(isKey: true, name: "id", typeOID: 23, typeModifier: -1),
        .init(isKey: false, name: "price", typeOID: 1700, typeModifier: 655_366),
      ])
    #expect(try decode(xid == nil ? "Relation" : "Relation in a stream").message == .relation(expected))
  }

  @Test func `a relation without a schema lies in pg_catalog`() throws {
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    let bytes = SampleMessage.relation(xid: nil, schema: "")
    guard case .relation(let relation) = try decoder.decode(bytes) else {
      Issue.record("wrong kind")
      return
    }
    #expect(relation.schema == "pg_catalog")
  }

  @Test(arguments: [nil, UInt32(701)])
  func `Type`(xid: UInt32?) throws {
    guard case .type(let type) = try decode(xid == nil ? "Type" : "Type in a stream").message else {
      Issue.record("wrong kind")
      return
    }
    #expect(type.xid == xid)
    #expect(type.typeOID == 16_400)
    #expect(type.schema == "public")
    #expect(type.name == "mood")
  }

  @Test(arguments: [nil, UInt32(701)])
  func `Insert keeps every kind of value`(xid: UInt32?) throws {
    let (message, bytes) = try decode(xid == nil ? "Insert" : "Insert in a stream")
    guard case .insert(let insert) = message else {
      Issue.record("wrong kind")
      return
    }
    #expect(insert.xid == xid)
    #expect(insert.relationID == 16_385)
    #expect(insert.new.columnCount == 5)
    #expect(insert.new.values(in: bytes) == ["text 1", "null", "unchanged", "binary [0, 255]", "text "])
  }

  @Test(arguments: [("Update", "none"), ("Update with key", "key"), ("Update with old row", "full")])
  func `Update says what it knows of the old row`(name: String, kind: String) throws {
    let (message, bytes) = try decode(name)
    guard case .update(let update) = message else {
      Issue.record("wrong kind")
      return
    }
    let found =
      switch update.old {
      case nil: "none"
      case .key: "key"
      case .full: "full"
      }
    #expect(found == kind)
    #expect(update.old?.tuple.values(in: bytes) == (update.old == nil ? nil : ["text 0", "null"]))
    #expect(update.new.values(in: bytes).count == 5)
    #expect(update.relationID == 16_385)
  }

  @Test func `Delete by key and by old row`() throws {
    guard case .delete(let byKey) = try decode("Delete by key").message,
      case .delete(let byRow) = try decode("Delete by old row").message, case .key(let key) = byKey.old,
      case .full(let row) = byRow.old
    else {
      Issue.record("wrong kind")
      return
    }
    #expect(key == row)
    #expect(key.values(in: try decode("Delete by key").bytes) == ["text 0", "null"])
    #expect(byKey.relationID == 16_385)
  }

  @Test(arguments: [(0, false, false), (1, true, false), (2, false, true), (3, true, true)])
  func `Truncate`(options: UInt8, cascade: Bool, restartIdentity: Bool) throws {
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    let bytes = SampleMessage.truncate(xid: nil, options: options)
    guard case .truncate(let truncate) = try decoder.decode(bytes) else {
      Issue.record("wrong kind")
      return
    }
    #expect(truncate.cascade == cascade)
    #expect(truncate.restartIdentity == restartIdentity)
    #expect(truncate.relationIDs == [16_385, 16_390])
  }

  @Test func `ranges are offsets in the whole buffer`() throws {
    let message = SampleMessage.insert(xid: nil)
    let bytes = [UInt8](repeating: 7, count: 11) + message + [7]
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    guard case .insert(let insert) = try decoder.decode(bytes, 11..<(11 + message.count)) else {
      Issue.record("wrong kind")
      return
    }
    #expect(insert.new.values(in: bytes).first == "text 1")
    #expect(insert.new.bytes.upperBound == bytes.count - 1)
  }
}
