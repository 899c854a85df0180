import LibPQ
import LogicalReplication

/// Received messages waiting to be applied. Pure: cuts them into pieces of one lane each, as a rule whole
/// transactions or whole blocks of a streamed one.
struct PendingMessages {
  /// With this many bytes, pieces may end in the middle of a transaction.
  static let limit = 4 << 20

  private var pending = CopyMessages()
  /// Complete pieces, by the count of messages at their end.
  private var pieces: [(lane: Lane, end: Int)] = []
  /// The lane of what follows them.
  private var lane = Lane.main
  /// How many messages there are up to the last that ends with no transaction open.
  private var whole = 0
  private var isInTransaction = false
  /// Where transactions commit, by the index of the first message that says so: the BEGIN of a whole
  /// transaction, the end of a streamed one. In the source's order, so their LSNs rise.
  private var commits: [(lsn: LSN, index: Int)] = []

  /// What there is to take.
  enum Taken {
    /// - Parameter commitLSN: the commit of the newest transaction that begins in it, or ends if streamed.
    case piece(StreamPiece, commitLSN: LSN?)
    /// The next transaction commits at or after the limit.
    case held
    case nothing
  }

  var byteCount: Int { pending.bytes.count }
  /// Enough has arrived; more should wait in the socket.
  var isFull: Bool { byteCount >= Self.limit }
  /// Whether anything can be taken.
  var isReady: Bool { !pieces.isEmpty || whole > 0 || isFull }

  /// Where the newest of the transactions commits that are pending, as far as is known.
  var lastCommitLSN: LSN? { commits.last?.lsn }

  mutating func append(_ received: CopyMessages) {
    let base = pending.messages.count
    pending.append(received)
    for (offset, range) in pending.messages[base...].enumerated() { note(range, at: base + offset) }
  }

  private mutating func note(_ range: Range<Int>, at index: Int) {
    let payload = Self.payload(of: range, in: pending.bytes)
    switch payload.first {
    case UInt8(ascii: "B"):
      isInTransaction = true
      commits.append((Self.lsn(payload.dropFirst()), index))
    case UInt8(ascii: "C"): isInTransaction = false
    case UInt8(ascii: "S"):
      close(at: index)
      lane = .streamed(Self.xid(payload))
    case UInt8(ascii: "E"):
      close(at: index + 1)
      lane = .main
    case UInt8(ascii: "c"), UInt8(ascii: "A"):
      close(at: index)
      pieces.append((.streamed(Self.xid(payload)), index + 1))
      // After xid and flags (manual, section 55.9, Stream Commit).
      if payload.first == UInt8(ascii: "c") { commits.append((Self.lsn(payload.dropFirst(6)), index)) }
    default: break
    }
    if lane == .main, !isInTransaction { whole = index + 1 }
  }

  private mutating func close(at end: Int) {
    if end > pieces.last?.end ?? 0 { pieces.append((lane, end)) }
  }

  /// The next piece: complete where its end has arrived, else all whole transactions, and without any, if
  /// enough is pending, everything.
  /// - Parameter bound: nothing that commits at or after it is taken, nor what follows.
  mutating func take(below bound: LSN? = nil) -> Taken {
    let held = bound.flatMap { bound in commits.first { $0.lsn >= bound }?.index }
    if held == 0 { return .held }
    guard isReady else { return .nothing }
    let end = pieces.first?.end ?? (whole > 0 ? whole : pending.messages.count)
    let count = min(end, held ?? end)
    let lane = pieces.first?.lane ?? lane
    if pieces.first?.end == count { pieces.removeFirst() }
    for index in pieces.indices { pieces[index].end -= count }
    whole = max(0, whole - count)
    let begun = commits.prefix { $0.index < count }
    let commitLSN = begun.last?.lsn
    commits.removeFirst(begun.count)
    for index in commits.indices { commits[index].index -= count }
    var taken = pending
    pending = CopyMessages()
    pending = taken.split(at: count)
    return .piece(StreamPiece(lane: lane, messages: taken), commitLSN: commitLSN)
  }

  /// A message of the output plugin: it follows `w` and three numbers of eight bytes (manual, section 55.4,
  /// XLogData). Empty for other messages.
  private static func payload(of range: Range<Int>, in bytes: [UInt8]) -> ArraySlice<UInt8> {
    guard range.count > 25, bytes[range.lowerBound] == UInt8(ascii: "w") else { return [] }
    return bytes[(range.lowerBound + 25)..<range.upperBound]
  }

  /// The xid that follows the kind of a message; wrong where it is cut short, which the decoder refuses.
  private static func xid(_ payload: ArraySlice<UInt8>) -> UInt32 {
    payload.dropFirst().prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
  }

  private static func lsn(_ payload: ArraySlice<UInt8>) -> LSN {
    LSN(rawValue: payload.prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
  }
}
