/// Changes of a transaction that is still open follow, up to Stream Stop.
package struct StreamStartMessage: Hashable, Sendable {
  /// The top-level transaction.
  package let xid: UInt32
  /// Nothing of the transaction was sent before.
  package let isFirstSegment: Bool
}

/// A transaction whose changes were streamed has committed.
package struct StreamCommitMessage: Hashable, Sendable {
  /// The top-level transaction.
  package let xid: UInt32
  /// Where the COMMIT record starts.
  package let commitLSN: LSN
  /// The end of the COMMIT record: what may be confirmed once the transaction is applied.
  package let endLSN: LSN
  /// By the sending server's clock.
  package let commitTime: PostgresTime
}

/// A streamed transaction, or a part of it, was rolled back.
package struct StreamAbortMessage: Hashable, Sendable {
  /// Only sent when streaming is `parallel`.
  package struct Position: Hashable, Sendable {
    let abortLSN: LSN
    let abortTime: PostgresTime
  }

  /// The top-level transaction.
  package let xid: UInt32
  /// Equals `xid` if the whole transaction was rolled back.
  package let subtransactionXID: UInt32
  /// Where it was rolled back; nil unless streaming is `parallel`.
  package let position: Position?
}

extension StreamStartMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    xid = try reader.u32()
    isFirstSegment = try reader.flag("first segment flag")
  }
}

extension StreamCommitMessage {
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    xid = try reader.u32()
    try reader.unusedFlags()
    commitLSN = try reader.lsn()
    endLSN = try reader.lsn()
    commitTime = try reader.time()
  }
}

extension StreamAbortMessage {
  init(_ reader: inout ByteReader, hasPosition: Bool) throws(ProtocolViolation) {
    xid = try reader.u32()
    subtransactionXID = try reader.u32()
    position = hasPosition ? try Position(&reader) : nil
  }
}

extension StreamAbortMessage.Position {
  fileprivate init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    abortLSN = try reader.lsn()
    abortTime = try reader.time()
  }
}
