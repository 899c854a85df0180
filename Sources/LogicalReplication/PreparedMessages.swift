/// The next changes belong to one transaction, which was prepared with PREPARE TRANSACTION.
package struct BeginPrepareMessage: Hashable, Sendable {
  let prepareLSN: LSN
  /// The end of the prepared transaction's record.
  package let endLSN: LSN
  let prepareTime: PostgresTime
  /// Of the top-level transaction.
  package let xid: UInt32
  /// The name that PREPARE TRANSACTION gave it.
  package let gid: String
}

/// The end of the changes that followed Begin Prepare.
package struct PrepareMessage: Hashable, Sendable {
  let prepareLSN: LSN
  /// The end of the PREPARE record: what may be confirmed once the transaction is prepared on the other end.
  package let endLSN: LSN
  let prepareTime: PostgresTime
  /// Of the top-level transaction.
  package let xid: UInt32
  /// The name that PREPARE TRANSACTION gave it.
  package let gid: String
}

/// COMMIT PREPARED of a transaction whose changes were sent before.
package struct CommitPreparedMessage: Hashable, Sendable {
  /// Where the COMMIT PREPARED record starts.
  package let commitLSN: LSN
  /// The end of that record: what may be confirmed.
  package let endLSN: LSN
  /// By the clock of the server that sends.
  package let commitTime: PostgresTime
  /// Of the transaction that was prepared.
  package let xid: UInt32
  /// The name that PREPARE TRANSACTION gave it.
  package let gid: String
}

/// ROLLBACK PREPARED of a transaction whose changes were sent before.
package struct RollbackPreparedMessage: Hashable, Sendable {
  let prepareEndLSN: LSN
  let rollbackEndLSN: LSN
  let prepareTime: PostgresTime
  let rollbackTime: PostgresTime
  /// Of the transaction that was prepared.
  package let xid: UInt32
  /// The name that PREPARE TRANSACTION gave it.
  package let gid: String
}

/// A transaction whose changes were streamed has been prepared.
package struct StreamPrepareMessage: Hashable, Sendable {
  let prepareLSN: LSN
  /// The end of the PREPARE record: what may be confirmed once the transaction is prepared on the other end.
  package let endLSN: LSN
  let prepareTime: PostgresTime
  /// Of the top-level transaction.
  package let xid: UInt32
  /// The name that PREPARE TRANSACTION gave it.
  package let gid: String
}

extension BeginPrepareMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    prepareLSN = try reader.lsn()
    endLSN = try reader.lsn()
    prepareTime = try reader.time()
    xid = try reader.u32()
    gid = try reader.string()
  }
}

extension PrepareMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    try reader.unusedFlags()
    prepareLSN = try reader.lsn()
    endLSN = try reader.lsn()
    prepareTime = try reader.time()
    xid = try reader.u32()
    gid = try reader.string()
  }
}

extension CommitPreparedMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    try reader.unusedFlags()
    commitLSN = try reader.lsn()
    endLSN = try reader.lsn()
    commitTime = try reader.time()
    xid = try reader.u32()
    gid = try reader.string()
  }
}

extension RollbackPreparedMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    try reader.unusedFlags()
    prepareEndLSN = try reader.lsn()
    rollbackEndLSN = try reader.lsn()
    prepareTime = try reader.time()
    rollbackTime = try reader.time()
    xid = try reader.u32()
    gid = try reader.string()
  }
}

extension StreamPrepareMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    try reader.unusedFlags()
    prepareLSN = try reader.lsn()
    endLSN = try reader.lsn()
    prepareTime = try reader.time()
    xid = try reader.u32()
    gid = try reader.string()
  }
}
