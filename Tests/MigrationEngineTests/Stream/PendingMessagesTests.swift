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

  private func tags(_ taken: CopyMessages?) -> String? {
    taken.map { taken in
      String(
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
    #expect(rest?.messages.last?.upperBound == rest?.bytes.count)
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

  @Test("Waiting ends with what comes, and a full inbox makes the sender wait", .timeLimit(.minutes(1)))
  func inbox() async {
    let inbox = Inbox()
    let rounds = 2000
    async let taken = {
      var count = 0
      while count < rounds, let messages = await inbox.take() { count += messages.messages.count / 3 }
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
