import Testing

@testable import LogicalReplication

/// Messages that a PostgreSQL 15.20 server sent, beside those that this module's own encoder writes.
struct CapturedMessageTests {
  private func bytes(_ hex: String) throws -> [UInt8] {
    let digits = Array(hex.utf8)
    return try stride(from: 0, to: digits.count - 1, by: 2).map { index in
      try #require(UInt8(String(decoding: digits[index...index + 1], as: UTF8.self), radix: 16))
    }
  }

  private func decodeAll(_ hexes: [String], version: PgOutputVersion) throws -> [PgOutputMessage] {
    var decoder = PgOutputDecoder(version: version, streaming: version == .one ? .off : .on)
    return try hexes.map { try decoder.decode(try bytes($0)) }
  }

  @Test func `a transaction with an enum, text and binary values`() throws {
    let binary =
      "49000040054e0005620000000400000001620000000178620000000373616462"
      + "0000000200ff620000000c000200000000000200011388"
    let messages = try decodeAll(
      [
        "42000000000154af58000303f0c0470a9d000002dd",
        "59000040017075626c6963006d6f6f6400",
        "52000040057075626c69630074006400050169640000000017ffffffff00610000000019ffffffff"
          + "006d0000004001ffffffff00620000000011ffffffff006e00000006a4000a0006",
        "49000040054e0005740000000131740000000178740000000373616474000000065c78303066667400000004312e3530",
        "49000040054e00057400000001326e6e6e6e",
        binary,
        "4300000000000154af58000000000154af88000303f0c0470a9d",
      ], version: .one)
    guard case .begin(let begin) = messages[0], case .relation(let relation) = messages[2],
      case .insert(let insert) = messages[5], case .commit(let commit) = messages[6]
    else {
      Issue.record("wrong kinds: \(messages)")
      return
    }
    #expect(begin.finalLSN == commit.commitLSN)
    #expect(begin.finalLSN.description == "0/154AF58")
    #expect(commit.endLSN.description == "0/154AF88")
    #expect(relation.columns.map(\.name) == ["id", "a", "m", "b", "n"])
    #expect(relation.columns.map(\.isKey) == [true, false, false, false, false])
    #expect(relation.columns.last?.typeModifier == 655_366)
    let values = insert.new.values(in: try bytes(binary))
    #expect(values.count == relation.columns.count)
    #expect(values[3] == "binary [0, 255]")
  }

  @Test func `a changed key, a delete and a truncate`() throws {
    let update = "55000040114b00027400000001316e4e0002740000000132740000000161"
    let messages = try decodeAll(
      [update, "44000040114b00027400000001326e", "540000000203000040050000400c"], version: .one)
    guard case .update(let changed) = messages[0], case .key(let key) = changed.old,
      case .truncate(let truncate) = messages[2]
    else {
      Issue.record("wrong kinds: \(messages)")
      return
    }
    #expect(key.values(in: try bytes(update)) == ["text 1", "null"])
    #expect(changed.new.values(in: try bytes(update)) == ["text 2", "text a"])
    #expect(truncate.relationIDs == [16_389, 16_396])
    #expect(truncate.cascade && truncate.restartIdentity)
  }

  @Test func `a streamed transaction with a rolled back subtransaction`() throws {
    let messages = try decodeAll(
      [
        "53000002ec01", "59000002ec000040017075626c6963006d6f6f6400",
        "52000002ee0000400c7075626c69630066006600020169640000000017ffffffff016269670000000019ffffffff",
        "54000002ee00000001000000400c", "45", "41000002ec000002ed", "53000002ec00",
        "4d000002f501000000000173d9a8696e000000000673747265616d", "4f00000000000000006f7200", "45",
        "4d00000000000173d9e0696e00000000026e6f",
        "63000002ec0000000000015f27d000000000015f28e8000303f0c0472f8f",
      ], version: .two)
    guard case .streamStart(let first) = messages[0], case .relation(let relation) = messages[2],
      case .streamAbort(let abort) = messages[5], case .logicalMessage(let inside) = messages[7],
      case .logicalMessage(let outside) = messages[10], case .streamCommit(let commit) = messages[11]
    else {
      Issue.record("wrong kinds: \(messages)")
      return
    }
    #expect(first.isFirstSegment)
    #expect(relation.xid == 750)
    #expect(relation.replicaIdentity == .full)
    #expect(abort.subtransactionXID == first.xid + 1)
    #expect(inside.xid == 757 && inside.isTransactional)
    #expect(outside.xid == nil && !outside.isTransactional)
    #expect(commit.xid == first.xid)
  }

  /// They were captured from a server that was asked for them, as ours never is.
  @Test(arguments: [
    "62000000000154ff200000000001550030000303f0c0471af9000002ea676964203100",
    "5000000000000154ff200000000001550030000303f0c0471af9000002ea676964203100",
    "4b0000000000015500300000000001550068000303f0c0471b5a000002ea676964203100",
    "720000000000015501e00000000001550218000303f0c0471c42000303f0c0471c96000002eb676964203200",
    "700000000000016983c000000000016984e8000303f0c0474641000002f0676964203300",
  ])
  func `messages of two-phase commit are no messages of ours`(message: String) throws {
    #expect(throws: ProtocolViolation.self) { try decodeAll([message], version: .three) }
  }
}
