/// How the rows of a relation are told apart in UPDATE and DELETE: `pg_class.relreplident`.
package enum ReplicaIdentity: UInt8, Hashable, Sendable {
  /// The primary key, if there is one.
  case primaryKey = 0x64  // d
  case nothing = 0x6E  // n
  case full = 0x66  // f
  case index = 0x69  // i
}

/// What a relation looked like when the changes that follow were made. Sent before the first change to it,
/// and again whenever the definition may have changed.
package struct RelationMessage: Hashable, Sendable {
  package struct Column: Hashable, Sendable {
    /// The column is part of the replica identity (every column is, if that is `full`).
    package let isKey: Bool
    package let name: String
    package let typeOID: UInt32
    /// `pg_attribute.atttypmod`, -1 if the type has none.
    package let typeModifier: Int32

    package init(isKey: Bool, name: String, typeOID: UInt32, typeModifier: Int32) {
      self.isKey = isKey
      self.name = name
      self.typeOID = typeOID
      self.typeModifier = typeModifier
    }
  }

  package let xid: UInt32?
  /// The relation's OID on the server that sends; changes refer to it.
  package let relationID: UInt32
  /// The protocol sends an empty name for `pg_catalog`; here it is written out.
  package let schema: String
  package let name: String
  package let replicaIdentity: ReplicaIdentity
  /// The published columns in the order in which tuples carry them.
  package let columns: [Column]

  package init(
    xid: UInt32?, relationID: UInt32, schema: String, name: String, replicaIdentity: ReplicaIdentity,
    columns: [Column]
  ) {
    self.xid = xid
    self.relationID = relationID
    self.schema = schema
    self.name = name
    self.replicaIdentity = replicaIdentity
    self.columns = columns
  }
}

/// The name behind the OID of a type that is not built in.
package struct TypeMessage: Hashable, Sendable {
  package let xid: UInt32?
  package let typeOID: UInt32
  package let schema: String
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
    // A column takes ten bytes at least, so a count that lies cannot make us reserve memory.
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
