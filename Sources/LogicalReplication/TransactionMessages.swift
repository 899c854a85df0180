/// The next changes belong to one transaction, which has committed.
package struct BeginMessage: Hashable, Sendable {
  /// Where the COMMIT record starts; equals `CommitMessage.commitLSN` of the same transaction.
  package let finalLSN: LSN
  /// By the sending server's clock.
  package let commitTime: PostgresTime
  /// Of the top-level transaction.
  package let xid: UInt32
}

/// The end of the changes that followed Begin.
package struct CommitMessage: Hashable, Sendable {
  /// Where the COMMIT record starts; equals `BeginMessage.finalLSN` of the same transaction.
  package let commitLSN: LSN
  /// The end of the COMMIT record: what may be confirmed once the transaction is applied.
  package let endLSN: LSN
  /// By the sending server's clock.
  package let commitTime: PostgresTime
}

/// The transaction came to this server from another one.
package struct OriginMessage: Hashable, Sendable {
  /// The position of the commit on the origin; zero in a streamed transaction, which has not committed there.
  let originLSN: LSN
  /// The origin's, as `pg_replication_origin` of the sending server has it.
  package let name: String
}

/// What `pg_logical_emit_message` wrote.
package struct LogicalMessage: Hashable, Sendable {
  /// The transaction or subtransaction, if it is streamed; nil otherwise.
  package let xid: UInt32?
  /// Otherwise it belongs to no transaction and arrives outside of any.
  package let isTransactional: Bool
  /// The end of the record that holds the message.
  package let lsn: LSN
  /// The first argument of `pg_logical_emit_message`: who it is for.
  package let prefix: String
  /// Where the content lies in the buffer that was decoded.
  package let content: Range<Int>
}

extension BeginMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    finalLSN = try reader.lsn()
    commitTime = try reader.time()
    xid = try reader.u32()
  }
}

extension CommitMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    try reader.unusedFlags()
    commitLSN = try reader.lsn()
    endLSN = try reader.lsn()
    commitTime = try reader.time()
  }
}

extension OriginMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    originLSN = try reader.lsn()
    name = try reader.string()
  }
}

extension LogicalMessage {
  init(_ reader: inout ByteReader, xid: UInt32?) throws(ProtocolViolation) {
    self.xid = xid
    isTransactional = try reader.flag("transactional flag")
    lsn = try reader.lsn()
    prefix = try reader.string()
    content = try reader.bytes(Int(try reader.i32()))
  }
}

extension ByteReader {
  /// A byte of flags, none of which has a meaning yet.
  mutating func unusedFlags() throws(ProtocolViolation) {
    guard try u8() == 0 else { throw violation(.unknownValue(field: "flags")) }
  }
}
