import LibPQ
import Testing

@testable import LogicalReplication
@testable import MigrationEngine

@Suite struct PendingMessagesTests {
  private func messages(_ write: (inout StreamMessages) -> Void) -> CopyMessages {
    var stream = StreamMessages()
    write(&stream)
    var messages = CopyMessages()
    messages.bytes = stream.bytes
    messages.messages = stream.ranges
    return messages
  }

  private func tags(_ piece: StreamPiece?) -> String? {
    piece.map { piece in
      let taken = piece.messages
      return String(
        decoding: taken.messages.map { range in
          taken.bytes[range.lowerBound] == UInt8(ascii: "k")
            ? UInt8(ascii: "k") : taken.bytes[range.lowerBound + 25]
        }, as: UTF8.self)
    }
  }

  /// All that can be taken, and where the newest transaction in each piece commits.
  private func drain(_ pending: inout PendingMessages, below bound: UInt64) -> [String] {
    var seen: [String] = []
    while true {
      switch pending.take(below: LSN(rawValue: bound)) {
      case .piece(let piece, let lsn):
        seen.append("\(piece.lane) \(tags(piece) ?? "") \(lsn?.rawValue ?? 0)")
      case .held: return seen + ["held"]
      case .nothing: return seen
      }
    }
  }

  @Test("What is taken ends with a whole transaction, and the rest waits for its end")
  func wholeTransactions() {
    var pending = PendingMessages()
    #expect(pending.next() == nil)
    pending.append(
      messages { stream in
        stream.keepalive(1)
        stream.begin(10)
        stream.insert(1, [.text("a")])
        stream.commit(10, end: 11)
        stream.begin(20)
        stream.insert(1, [.text("bb")])
      })
    #expect(tags(pending.next()) == "kBIC")
    #expect(pending.next() == nil)
    pending.append(messages { $0.keepalive(15) })
    #expect(pending.next() == nil, "a keepalive ends nothing")
    pending.append(messages { $0.commit(20, end: 21) })
    let rest = pending.next()
    #expect(tags(rest) == "BIkC")
    #expect(rest?.messages.messages.last?.upperBound == rest?.messages.bytes.count)
    #expect(pending.byteCount == 0)
  }

  @Test("A transaction larger than the limit is taken in parts")
  func largeTransaction() {
    var pending = PendingMessages()
    let megabyte = String(repeating: "x", count: 1 << 20)
    pending.append(messages { $0.begin(10) })
    for _ in 0..<4 {
      #expect(!pending.isFull)
      pending.append(messages { $0.insert(1, [.text(megabyte)]) })
    }
    #expect(pending.isFull)
    #expect(tags(pending.next()) == "BIIII")
    pending.append(
      messages { stream in
        stream.insert(1, [.text("x")])
        stream.commit(10, end: 11)
      })
    #expect(tags(pending.next()) == "IC")
  }

  @Test("Blocks and ends of streamed transactions are pieces of their own, in order")
  func streamedTransactions() {
    var pending = PendingMessages()
    pending.append(
      messages { stream in
        stream.begin(10)
        stream.commit(10, end: 11)
        stream.block(7, isFirst: true) { $0.insert(1, [.text("a")]) }
        stream.block(8, isFirst: true) { $0.insert(1, [.text("b")]) }
        stream.keepalive(15)
        stream.begin(20)
        stream.commit(20, end: 21)
        stream.streamAbort(8)
        stream.streamCommit(7, 30, end: 31)
        stream.begin(40)
      })
    var seen: [String] = []
    while let piece = pending.next() { seen.append("\(piece.lane) \(tags(piece) ?? "")") }
    #expect(
      seen == ["main BC", "streamed(7) SIE", "streamed(8) SIE", "main kBC", "streamed(8) A", "streamed(7) c"])
    pending.append(messages { $0.commit(40, end: 41) })
    #expect(tags(pending.next()) == "BC")
    #expect(pending.byteCount == 0)
  }

  @Test("A block larger than the limit is taken in parts of its lane")
  func largeBlock() {
    var pending = PendingMessages()
    let megabyte = String(repeating: "x", count: 1 << 20)
    let block = messages { stream in
      stream.block(7, isFirst: true) { stream in
        for _ in 0..<5 { stream.insert(1, [.text(megabyte)]) }
      }
    }
    var seen: [String] = []
    for range in block.messages {
      var one = CopyMessages()
      one.bytes = Array(block.bytes[range])
      one.messages = [0..<range.count]
      pending.append(one)
      while let piece = pending.next() { seen.append("\(piece.lane) \(tags(piece) ?? "")") }
    }
    #expect(seen == ["streamed(7) SIIII", "streamed(7) IE"])
  }

  @Test("Nothing that commits at or beyond the bound is taken, and what is taken ends before it")
  func bound() {
    var pending = PendingMessages()
    pending.append(
      messages { stream in
        for lsn in [10, 20, 30] as [UInt64] {
          stream.begin(lsn)
          stream.insert(1, [.text("a")])
          stream.commit(lsn, end: lsn + 1)
          stream.keepalive(lsn + 1)
        }
      })
    #expect(drain(&pending, below: 5) == ["held"])
    #expect(drain(&pending, below: 10) == ["held"], "what commits at the bound is beyond it")
    #expect(drain(&pending, below: 11) == ["main BICk 10", "held"])
    #expect(
      drain(&pending, below: 31) == ["main BICkBICk 30"], "there is nothing after it, so nothing is held")
    #expect(pending.byteCount == 0)
    pending.append(messages { $0.begin(40) })
    #expect(drain(&pending, below: 40) == ["held"], "its beginning shows where a transaction commits")
    #expect(drain(&pending, below: 41) == [])
  }

  @Test("A streamed transaction is held at its end, its blocks are not, and nothing passes it")
  func boundOfStreamed() {
    var pending = PendingMessages()
    pending.append(
      messages { stream in
        stream.block(7, isFirst: true) { $0.insert(1, [.text("a")]) }
        stream.begin(10)
        stream.commit(10, end: 11)
        stream.streamCommit(7, 20, end: 21)
        stream.block(8, isFirst: true) { $0.insert(1, [.text("b")]) }
        stream.begin(30)
        stream.commit(30, end: 31)
        stream.streamAbort(8)
      })
    #expect(drain(&pending, below: 20) == ["streamed(7) SIE 0", "main BC 10", "held"])
    #expect(drain(&pending, below: 30) == ["streamed(7) c 20", "streamed(8) SIE 0", "held"])
    #expect(drain(&pending, below: 31) == ["main BC 30", "streamed(8) A 0"])
  }

  @Test("A large transaction that was begun before the bound comes to its end")
  func boundInLargeTransaction() {
    var pending = PendingMessages()
    let megabyte = String(repeating: "x", count: 1 << 20)
    pending.append(messages { $0.begin(10) })
    for _ in 0..<4 { pending.append(messages { $0.insert(1, [.text(megabyte)]) }) }
    #expect(drain(&pending, below: 11) == ["main BIIII 10"])
    pending.append(
      messages { stream in
        stream.insert(1, [.text("x")])
        stream.commit(10, end: 11)
        stream.begin(20)
        stream.commit(20, end: 21)
      })
    #expect(drain(&pending, below: 11) == ["main IC 0", "held"])
    for _ in 0..<4 {
      pending.append(
        messages { stream in
          stream.begin(30)
          stream.insert(1, [.text(megabyte)])
        })
    }
    #expect(pending.isFull)
    #expect(drain(&pending, below: 11) == ["held"], "also when there is no room for more")
  }

  @Test("A message outside of transactions and a keepalive pass while nothing before them is held")
  func boundAndMessages() {
    var pending = PendingMessages()
    pending.append(
      messages { stream in
        stream.message("other", "x")
        stream.keepalive(50)
        stream.begin(60)
        stream.commit(60, end: 61)
        stream.message("other", "y")
        stream.keepalive(70)
      })
    #expect(drain(&pending, below: 40) == ["main Mk 0", "held"])
    #expect(drain(&pending, below: 61) == ["main BCMk 60"])
  }

  @Test("A bound that moves lets go on who waits, and is fixed only where nothing has passed it")
  func boundOfInbox() async {
    let bound = ApplyLimit()
    let inbox = Inbox(bound: bound)
    await inbox.put(
      messages { stream in
        for lsn in [10, 20, 30] as [UInt64] {
          stream.begin(lsn)
          stream.commit(lsn, end: lsn + 1)
        }
      })
    bound.move(to: LSN(rawValue: 15))
    #expect(tags(await inbox.take()) == "BC")
    #expect(!bound.fix(at: LSN(rawValue: 10)), "10 is passed")
    #expect(bound.fix(at: LSN(rawValue: 25)))
    bound.move(to: LSN(rawValue: 100))
    #expect(!bound.isReached)
    #expect(tags(await inbox.take()) == "BC")
    #expect(!bound.isReached, "what was taken is not applied yet")
    async let last = inbox.take()
    while !bound.isReached { await Task.yield() }
    bound.lift()
    #expect(tags(await last) == "BC")
    #expect(!bound.isReached)
  }

  @Test("Waiting ends with what comes, and a full inbox makes the sender wait", .timeLimit(.minutes(1)))
  func inbox() async {
    let inbox = Inbox()
    let rounds = 2000
    async let taken = {
      var count = 0
      while count < rounds, let piece = await inbox.take() {
        count += piece.messages.messages.count / 3
      }
      return count
    }()
    let body = String(repeating: "x", count: 10_000)
    for _ in 0..<rounds {
      await inbox.put(
        messages { stream in
          stream.begin(10)
          stream.insert(1, [.text(body)])
          stream.commit(10, end: 11)
        })
      #expect(inbox.byteCount <= PendingMessages.limit + 11_000)
    }
    #expect(await taken == rounds)
  }
}

extension PendingMessages {
  fileprivate mutating func next() -> StreamPiece? {
    guard case .piece(let piece, _) = take() else { return nil }
    return piece
  }
}
