import LibPQ

/// Messages that have come in and wait to be applied. Pure: tells which of them end with a whole transaction,
/// so that what is taken is, as a rule, whole.
struct PendingMessages {
  /// Taken also in the middle of a transaction once so many bytes wait.
  static let limit = 4 << 20

  private var pending = CopyMessages()
  /// How many of them end with no transaction open.
  private var whole = 0
  private var isInTransaction = false

  var byteCount: Int { pending.bytes.count }
  /// Enough is there; more should wait in the socket.
  var isFull: Bool { byteCount >= Self.limit }
  /// Whether anything can be taken.
  var isReady: Bool { whole > 0 || isFull }

  mutating func append(_ received: CopyMessages) {
    let base = pending.messages.count
    pending.append(received)
    for (offset, range) in pending.messages[base...].enumerated() {
      switch Self.tag(of: range, in: pending.bytes) {
      case UInt8(ascii: "B"), UInt8(ascii: "S"): isInTransaction = true
      case UInt8(ascii: "C"), UInt8(ascii: "E"): isInTransaction = false
      default: break
      }
      if !isInTransaction { whole = base + offset + 1 }
    }
  }

  /// All up to the end of the last whole transaction; when there is none and enough waits, everything.
  mutating func take() -> CopyMessages? {
    guard isReady else { return nil }
    let count = whole > 0 ? whole : pending.messages.count
    whole = 0
    if count == pending.messages.count {
      defer { pending = CopyMessages() }
      return pending
    }
    var taken = pending
    pending = taken.split(at: count)
    return taken
  }

  /// The kind of a message of the output plugin: it follows `w` and three numbers of eight bytes (manual,
  /// section 55.4, XLogData).
  private static func tag(of range: Range<Int>, in bytes: [UInt8]) -> UInt8? {
    guard range.count > 25, bytes[range.lowerBound] == UInt8(ascii: "w") else { return nil }
    return bytes[range.lowerBound + 25]
  }
}
