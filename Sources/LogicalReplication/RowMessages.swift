/// An inserted row.
package struct InsertMessage: Hashable, Sendable {
  /// The transaction or subtransaction, if it is streamed; nil otherwise.
  package let xid: UInt32?
  /// The OID of an earlier Relation message.
  package let relationID: UInt32
  /// The whole row, as far as its columns are published.
  package let new: TupleData
}

/// An updated row.
package struct UpdateMessage: Hashable, Sendable {
  /// The transaction or subtransaction, if it is streamed; nil otherwise.
  package let xid: UInt32?
  /// The OID of an earlier Relation message.
  package let relationID: UInt32
  /// Nil if the key did not change, so that the new tuple holds it.
  package let old: OldTuple?
  /// The whole row; values out of line that did not change are `unchangedTOAST`.
  package let new: TupleData
}

/// A deleted row.
package struct DeleteMessage: Hashable, Sendable {
  /// The transaction or subtransaction, if it is streamed; nil otherwise.
  package let xid: UInt32?
  /// The OID of an earlier Relation message.
  package let relationID: UInt32
  /// What identifies the row.
  package let old: OldTuple
}

/// Tables emptied by one TRUNCATE.
package struct TruncateMessage: Hashable, Sendable {
  /// The transaction or subtransaction, if it is streamed; nil otherwise.
  package let xid: UInt32?
  let cascade: Bool
  let restartIdentity: Bool
  /// All relations that were truncated, those reached by CASCADE included.
  package let relationIDs: [UInt32]
}

/// The row as it was. Both have as many columns as the relation.
package enum OldTuple: Hashable, Sendable {
  /// Only the replica identity's columns have values, the others are null.
  case key(TupleData)
  /// The whole row: the replica identity is `full`.
  case full(TupleData)

  /// What was sent, in whichever form.
  package var tuple: TupleData {
    switch self {
    case .key(let tuple), .full(let tuple): tuple
    }
  }
}

extension InsertMessage {
  init(_ reader: inout ByteReader, xid: UInt32?) throws(ProtocolViolation) {
    self.xid = xid
    relationID = try reader.u32()
    guard try reader.u8() == UInt8(ascii: "N") else {
      throw reader.violation(.unknownValue(field: "tuple kind"))
    }
    new = try TupleData(&reader)
  }
}

extension UpdateMessage {
  init(_ reader: inout ByteReader, xid: UInt32?) throws(ProtocolViolation) {
    self.xid = xid
    relationID = try reader.u32()
    var kind = try reader.u8()
    if kind == UInt8(ascii: "N") {
      old = nil
    } else {
      old = try OldTuple(kind: kind, &reader)
      kind = try reader.u8()
    }
    guard kind == UInt8(ascii: "N") else { throw reader.violation(.unknownValue(field: "tuple kind")) }
    new = try TupleData(&reader)
  }
}

extension DeleteMessage {
  init(_ reader: inout ByteReader, xid: UInt32?) throws(ProtocolViolation) {
    self.xid = xid
    relationID = try reader.u32()
    old = try OldTuple(kind: try reader.u8(), &reader)
  }
}

extension TruncateMessage {
  init(_ reader: inout ByteReader, xid: UInt32?) throws(ProtocolViolation) {
    self.xid = xid
    let count = Int(try reader.i32())
    let flags = try reader.u8()
    guard flags & ~3 == 0 else { throw reader.violation(.unknownValue(field: "TRUNCATE options")) }
    cascade = flags & 1 != 0
    restartIdentity = flags & 2 != 0
    guard count >= 0 else { throw reader.violation(.negativeCount(field: "number of relations")) }
    guard count <= reader.remaining / 4 else {
      throw reader.violation(.excessiveCount(field: "number of relations"))
    }
    var relationIDs: [UInt32] = []
    relationIDs.reserveCapacity(count)
    for _ in 0..<count {
      relationIDs.append(try reader.u32())
    }
    self.relationIDs = relationIDs
  }
}

extension OldTuple {
  fileprivate init(kind: UInt8, _ reader: inout ByteReader) throws(ProtocolViolation) {
    switch kind {
    case UInt8(ascii: "K"): self = .key(try TupleData(&reader))
    case UInt8(ascii: "O"): self = .full(try TupleData(&reader))
    default: throw reader.violation(.unknownValue(field: "tuple kind"))
    }
  }
}
