import LibPQ
import Testing

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

  @Test("What is taken ends with a whole transaction, and the rest waits for its end")
  func wholeTransactions() {
    var pending = PendingMessages()
    #expect(pending.take() == nil)
    pending.append(
      messages { stream in
        stream.keepalive(1)
        stream.begin(10)
        stream.insert(1, [.text("a")])
        stream.commit(10, end: 11)
        stream.begin(20)
        stream.insert(1, [.text("bb")])
      })
    #expect(tags(pending.take()) == "kBIC")
    #expect(pending.take() == nil)
    pending.append(messages { $0.keepalive(15) })
    #expect(pending.take() == nil, "a keepalive ends nothing")
    pending.append(messages { $0.commit(20, end: 21) })
    let rest = pending.take()
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
    #expect(tags(pending.take()) == "BIIII")
    pending.append(
      messages { stream in
        stream.insert(1, [.text("x")])
        stream.commit(10, end: 11)
      })
    #expect(tags(pending.take()) == "IC")
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
    while let piece = pending.take() { seen.append("\(piece.lane) \(tags(piece) ?? "")") }
    #expect(
      seen == ["main BC", "streamed(7) SIE", "streamed(8) SIE", "main kBC", "streamed(8) A", "streamed(7) c"])
    pending.append(messages { $0.commit(40, end: 41) })
    #expect(tags(pending.take()) == "BC")
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
      while let piece = pending.take() { seen.append("\(piece.lane) \(tags(piece) ?? "")") }
    }
    #expect(seen == ["streamed(7) SIIII", "streamed(7) IE"])
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
