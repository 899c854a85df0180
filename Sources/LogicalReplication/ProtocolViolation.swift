/// Bytes from the server that violate the protocol, so that nothing after them can be trusted.
///
/// It says where and what, but never repeats the payload: users' values must not reach a log.
package struct ProtocolViolation: Error, Hashable, Sendable {
  /// Which part of the protocol the bytes belong to.
  enum Layer: Hashable, Sendable {
    /// CopyData payloads of a walsender.
    case streamingReplication
    /// What the output plugin `pgoutput` wrote into XLogData.
    case pgoutput
  }

  /// What is wrong with the bytes.
  package enum Problem: Hashable, Sendable {
    /// The caller's range is not inside its buffer.
    case rangeOutsideBuffer
    /// The message ends this many bytes too early.
    case truncated(needed: Int)
    /// The message is longer than its contents.
    case trailingBytes
    /// A string has no NUL before the message ends.
    case unterminatedString
    /// A string is not UTF-8, the client encoding of all our sessions.
    case invalidUTF8
    /// No message of this layer begins with this byte.
    case unknownMessage
    /// A byte that the protocol gives no meaning in this place.
    case unknownValue(field: String)
    /// A count or a length below zero.
    case negativeCount(field: String)
    /// A count too large for the remaining bytes.
    case excessiveCount(field: String)
    /// The message arrived although an earlier version was requested.
    case needsProtocolVersion(Int)
    /// The message came although streaming is `off`.
    case streamingNotRequested
    /// The message may not come between Stream Start and Stream Stop.
    case notAllowedInsideStream
    /// Stream Stop came without Stream Start.
    case notAllowedOutsideStream
  }

  let layer: Layer
  /// The first byte of the message, or nil if it was not reached.
  let tag: UInt8?
  /// What is wrong at `offset`.
  package let problem: Problem
  /// Where reading stopped, in bytes from the start of the message.
  let offset: Int
  /// The length of the whole message in bytes.
  package let byteCount: Int
}

extension ProtocolViolation: CustomStringConvertible {
  package var description: String {
    "\(name): \(reason), at byte \(offset) of \(byteCount) (PostgreSQL manual, \(section))"
  }

  private var name: String {
    let kind =
      switch layer {
      case .streamingReplication: "replication message"
      case .pgoutput: "pgoutput message"
      }
    guard let tag else { return kind }
    guard (0x21...0x7E).contains(tag) else { return "\(kind) 0x\(String(tag, radix: 16))" }
    return "\(kind) '\(Character(Unicode.Scalar(tag)))'"
  }

  private var section: String {
    switch layer {
    case .streamingReplication: "\"Streaming Replication Protocol\", 55.4 in version 15"
    case .pgoutput:
      "\"Logical Streaming Replication Protocol\" and \"Logical Replication Message Formats\", "
        + "55.5 and 55.9 in version 15"
    }
  }

  private var reason: String {
    switch problem {
    case .rangeOutsideBuffer: "its range lies outside the buffer"
    case .truncated(let needed): "it ends too early, \(needed) more bytes were due"
    case .trailingBytes: "bytes are left after its end"
    case .unterminatedString: "a string has no end"
    case .invalidUTF8: "a string is not valid UTF-8"
    case .unknownMessage: "it is of an unknown kind"
    case .unknownValue(let field): "its \(field) has an unknown value"
    case .negativeCount(let field): "its \(field) is negative"
    case .excessiveCount(let field): "its \(field) is larger than the message"
    case .needsProtocolVersion(let version): "it belongs to protocol version \(version), which is not in use"
    case .streamingNotRequested: "it belongs to a streamed transaction, and streaming was not requested"
    case .notAllowedInsideStream: "it may not appear between Stream Start and Stream Stop"
    case .notAllowedOutsideStream: "it may only appear between Stream Start and Stream Stop"
    }
  }
}
