/// The option `proto_version` of pgoutput.
package enum PgOutputVersion: Int, Hashable, Comparable, Sendable {
  /// PostgreSQL 10.
  case one = 1
  /// PostgreSQL 14: transactions may be streamed before they commit.
  case two = 2
  /// PostgreSQL 15: two-phase commit.
  case three = 3
  /// PostgreSQL 16: streamed transactions may be applied in parallel.
  case four = 4

  package static func < (left: PgOutputVersion, right: PgOutputVersion) -> Bool {
    left.rawValue < right.rawValue
  }
}

/// The option `streaming` of pgoutput: whether large transactions are sent before they commit.
package enum PgOutputStreaming: String, Hashable, Sendable {
  /// Each transaction comes whole, once it has committed.
  case off
  /// Needs protocol version 2.
  case on
  /// Needs protocol version 4.
  case parallel
}

/// Decodes pgoutput's messages, in order: one decoder for one START_REPLICATION.
///
/// It knows whether it is between Stream Start and Stream Stop, because messages there begin with an xid.
/// Which changes make up a transaction, and whether a tuple fits its relation, is for the caller to check.
/// After an error the stream cannot be trusted and the decoder should not be used again.
package struct PgOutputDecoder: Sendable {
  /// What START_REPLICATION asked for; messages of a later version are violations.
  package let version: PgOutputVersion
  /// What START_REPLICATION asked for.
  package let streaming: PgOutputStreaming
  /// The last message was, or followed, a Stream Start that no Stream Stop has ended.
  private(set) var isInStream = false

  /// Both as in the command that started the stream.
  package init(version: PgOutputVersion, streaming: PgOutputStreaming) {
    self.version = version
    self.streaming = streaming
  }

  /// Decodes the one message that fills `range` of `buffer`. Ranges in the result are offsets in `buffer`.
  package mutating func decode(
    _ buffer: UnsafeRawBufferPointer, _ range: Range<Int>
  ) throws(ProtocolViolation) -> PgOutputMessage {
    var reader = try ByteReader(buffer, range, layer: .pgoutput)
    let byte = try reader.u8()
    reader.tag = byte
    guard let tag = PgOutputTag(rawValue: byte) else { throw reader.violation(.unknownMessage) }
    try admit(tag, reader)
    let xid = isInStream && tag.carriesXIDInStream ? try reader.u32() : nil
    let message = try body(of: tag, xid: xid, &reader)
    try reader.finish()
    if tag == .streamStart {
      isInStream = true
    } else if tag == .streamStop {
      isInStream = false
    }
    return message
  }

  private func admit(_ tag: PgOutputTag, _ reader: ByteReader) throws(ProtocolViolation) {
    guard version >= tag.firstVersion else {
      throw reader.violation(.needsProtocolVersion(tag.firstVersion.rawValue))
    }
    if tag.needsStreaming, streaming == .off { throw reader.violation(.streamingNotRequested) }
    if isInStream {
      guard tag.isAllowedInStream else { throw reader.violation(.notAllowedInsideStream) }
    } else if tag == .streamStop {
      throw reader.violation(.notAllowedOutsideStream)
    }
  }

  private func body(
    of tag: PgOutputTag, xid: UInt32?, _ reader: inout ByteReader
  ) throws(ProtocolViolation) -> PgOutputMessage {
    switch tag {
    case .begin: .begin(try BeginMessage(&reader))
    case .logicalMessage: .logicalMessage(try LogicalMessage(&reader, xid: xid))
    case .commit: .commit(try CommitMessage(&reader))
    case .origin: .origin(try OriginMessage(&reader))
    case .relation: .relation(try RelationMessage(&reader, xid: xid))
    case .type: .type(try TypeMessage(&reader, xid: xid))
    case .insert: .insert(try InsertMessage(&reader, xid: xid))
    case .update: .update(try UpdateMessage(&reader, xid: xid))
    case .delete: .delete(try DeleteMessage(&reader, xid: xid))
    case .truncate: .truncate(try TruncateMessage(&reader, xid: xid))
    case .streamStart: .streamStart(try StreamStartMessage(&reader))
    case .streamStop: .streamStop
    case .streamCommit: .streamCommit(try StreamCommitMessage(&reader))
    case .streamAbort: .streamAbort(try StreamAbortMessage(&reader, hasPosition: abortsHavePosition))
    }
  }

  private var abortsHavePosition: Bool {
    version >= .four && streaming == .parallel
  }
}

extension PgOutputTag {
  fileprivate var firstVersion: PgOutputVersion {
    switch self {
    case .begin, .logicalMessage, .commit, .origin, .relation, .type, .insert, .update, .delete, .truncate:
      .one
    case .streamStart, .streamStop, .streamCommit, .streamAbort: .two
    }
  }

  fileprivate var needsStreaming: Bool {
    switch self {
    case .streamStart, .streamStop, .streamCommit, .streamAbort: true
    case .begin, .logicalMessage, .commit, .origin, .relation, .type, .insert, .update, .delete, .truncate:
      false
    }
  }

  /// Origin is the one message inside a stream that has no xid of its own.
  fileprivate var carriesXIDInStream: Bool {
    switch self {
    case .logicalMessage, .relation, .type, .insert, .update, .delete, .truncate: true
    case .begin, .commit, .origin, .streamStart, .streamStop, .streamCommit, .streamAbort:
      false
    }
  }

  fileprivate var isAllowedInStream: Bool {
    carriesXIDInStream || self == .origin || self == .streamStop
  }
}
