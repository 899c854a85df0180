/// What a walsender puts into one CopyData message
/// (PostgreSQL manual, "Streaming Replication Protocol", START_REPLICATION).
package enum ReplicationFrame: Hashable, Sendable {
  /// `w`: WAL, decoded.
  case xLogData(XLogData)
  /// `k`: a keepalive, perhaps with a request for a reply.
  case primaryKeepalive(PrimaryKeepalive)

  /// Reads the payload of one CopyData message that lies at `range` of `buffer`.
  package init(_ buffer: UnsafeRawBufferPointer, _ range: Range<Int>) throws(ProtocolViolation) {
    var reader = try ByteReader(buffer, range, layer: .streamingReplication)
    let tag = try reader.u8()
    reader.tag = tag
    switch tag {
    case UInt8(ascii: "w"): self = .xLogData(try XLogData(&reader))
    case UInt8(ascii: "k"): self = .primaryKeepalive(try PrimaryKeepalive(&reader))
    default: throw reader.violation(.unknownMessage)
    }
    try reader.finish()
  }
}

/// One message of the output plugin, with its place in the WAL.
package struct XLogData: Hashable, Sendable {
  /// The start of the WAL data in this message; zero for messages that belong to no record.
  package let startLSN: LSN
  /// The end of WAL on the server when it sent this.
  package let serverLSN: LSN
  let sendTime: PostgresTime
  /// Where the output plugin's bytes lie in the buffer that was decoded.
  package let payload: Range<Int>

  fileprivate init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    startLSN = try reader.lsn()
    serverLSN = try reader.lsn()
    sendTime = try reader.time()
    payload = try reader.bytes(reader.remaining)
  }
}

/// The server is alive, has nothing to send up to `serverLSN`, and may want a reply.
package struct PrimaryKeepalive: Hashable, Sendable {
  /// The end of WAL on the server when it sent this.
  package let serverLSN: LSN
  let sendTime: PostgresTime
  /// The server closes the connection if it hears nothing until `wal_sender_timeout`.
  let replyRequested: Bool

  fileprivate init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    serverLSN = try reader.lsn()
    sendTime = try reader.time()
    replyRequested = try reader.flag("reply flag")
  }
}
