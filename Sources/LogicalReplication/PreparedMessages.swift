/// The next changes belong to one transaction, which was prepared with PREPARE TRANSACTION.
package struct BeginPrepareMessage: Hashable, Sendable {
  package let prepareLSN: LSN
  package let endLSN: LSN
  package let prepareTime: PostgresTime
  package let xid: UInt32
  package let gid: String
}

/// The end of the changes that followed Begin Prepare.
package struct PrepareMessage: Hashable, Sendable {
  package let prepareLSN: LSN
  package let endLSN: LSN
  package let prepareTime: PostgresTime
  package let xid: UInt32
  package let gid: String
}

package struct CommitPreparedMessage: Hashable, Sendable {
  package let commitLSN: LSN
  package let endLSN: LSN
  package let commitTime: PostgresTime
  package let xid: UInt32
  package let gid: String
}

package struct RollbackPreparedMessage: Hashable, Sendable {
  package let prepareEndLSN: LSN
  package let rollbackEndLSN: LSN
  package let prepareTime: PostgresTime
  package let rollbackTime: PostgresTime
  package let xid: UInt32
  package let gid: String
}

/// A transaction whose changes were streamed has been prepared.
package struct StreamPrepareMessage: Hashable, Sendable {
  package let prepareLSN: LSN
  package let endLSN: LSN
  package let prepareTime: PostgresTime
  package let xid: UInt32
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
