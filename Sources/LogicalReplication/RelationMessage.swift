/// How rows of a relation are identified in UPDATE and DELETE: `pg_class.relreplident`.
package enum ReplicaIdentity: UInt8, Hashable, Sendable {
  /// The primary key, if there is one.
  case primaryKey = 0x64  // d
  /// Updates and deletes of a published table are refused by the server.
  case nothing = 0x6E  // n
  /// All columns: the old row is sent whole.
  case full = 0x66  // f
  /// The index that REPLICA IDENTITY USING INDEX names.
  case index = 0x69  // i
}

/// A relation as it was when the following changes were made. Sent before the first change to it, and again
/// whenever the definition may have changed.
package struct RelationMessage: Hashable, Sendable {
  /// A published column, as on the sending server.
  package struct Column: Hashable, Sendable {
    /// The column is part of the replica identity (every column is, if that is `full`).
    package let isKey: Bool
    /// Without quotes.
    package let name: String
    /// `pg_attribute.atttypid`; a type that is not built in has been named by a Type message before.
    package let typeOID: UInt32
    /// `pg_attribute.atttypmod`, -1 if the type has none.
    package let typeModifier: Int32

    /// For tests and for relations that did not come from a stream.
    package init(isKey: Bool, name: String, typeOID: UInt32, typeModifier: Int32) {
      self.isKey = isKey
      self.name = name
      self.typeOID = typeOID
      self.typeModifier = typeModifier
    }
  }

  /// The open transaction that is streamed; nil outside of a stream.
  package let xid: UInt32?
  /// The relation's OID on the sending server; changes refer to it.
  package let relationID: UInt32
  /// The protocol sends an empty name for `pg_catalog`; here it is written out.
  package let schema: String
  /// Without quotes.
  package let name: String
  /// What identifies the old row in updates and deletes.
  package let replicaIdentity: ReplicaIdentity
  /// The published columns in the order of tuples.
  package let columns: [Column]
}

/// The name of a type that is not built in, by OID.
package struct TypeMessage: Hashable, Sendable {
  /// The open transaction that is streamed; nil outside of a stream.
  package let xid: UInt32?
  /// `pg_type.oid` on the sending server.
  package let typeOID: UInt32
  /// The protocol sends an empty name for `pg_catalog`; here it is written out.
  package let schema: String
  /// Without quotes.
  package let name: String
}

extension RelationMessage {
  init(_ reader: inout ByteReader, xid: UInt32?) throws(ProtocolViolation) {
    self.xid = xid
    relationID = try reader.u32()
    schema = try reader.schema()
    name = try reader.string()
    guard let identity = ReplicaIdentity(rawValue: try reader.u8()) else {
      throw reader.violation(.unknownValue(field: "replica identity"))
    }
    replicaIdentity = identity
    let count = Int(try reader.i16())
    guard count >= 0 else { throw reader.violation(.negativeCount(field: "number of columns")) }
    // A column takes at least ten bytes, so a false count cannot make us reserve memory.
    guard count <= reader.remaining / 10 else {
      throw reader.violation(.excessiveCount(field: "number of columns"))
    }
    var columns: [Column] = []
    columns.reserveCapacity(count)
    for _ in 0..<count {
      columns.append(try Column(&reader))
    }
    self.columns = columns
  }
}

extension RelationMessage.Column {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    isKey = try reader.flag("column flags")
    name = try reader.string()
    typeOID = try reader.u32()
    typeModifier = try reader.i32()
  }
}

extension TypeMessage {
  init(_ reader: inout ByteReader, xid: UInt32?) throws(ProtocolViolation) {
    self.xid = xid
    typeOID = try reader.u32()
    schema = try reader.schema()
    name = try reader.string()
  }
}

extension ByteReader {
  fileprivate mutating func schema() throws(ProtocolViolation) -> String {
    let name = try string()
    return name.isEmpty ? "pg_catalog" : name
  }
}
