import Foundation
import Testing

@testable import LibPQ
@testable import LogicalReplication
@testable import MigrationEngine

/// Whatever a source sends, in whatever pieces, is planned or refused: nothing makes the engine trap.
///
/// `REPLICATE_FUZZ_ROUNDS` sets how many streams are tried.
@Suite struct StreamFuzzTests {
  private static let rounds =
    ProcessInfo.processInfo.environment["REPLICATE_FUZZ_ROUNDS"].flatMap(Int.init) ?? 2000

  /// The same seed gives the same streams, so that a trap can be repeated.
  private struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state ^ (state >> 33)) &* 0xFF51_AFD7_ED55_8CCD
    }
  }

  @Test("A stream that is cut, repeated, reordered or damaged is planned or refused", arguments: [1, 2, 3])
  func damaged(seed: Int) {
    var generator = Generator(state: UInt64(seed))
    let messages = Self.messages
    var refused = 0
    for _ in 0..<Self.rounds {
      let stream = Self.damaged(messages, &generator)
      if !isPlanned(stream, &generator) { refused += 1 }
    }
    #expect(refused > Self.rounds / 10)
    #expect(refused < Self.rounds, "some damage does no harm")
  }

  @Test("An undamaged stream is planned, in whatever pieces it comes")
  func whole() {
    var generator = Generator(state: 4)
    for _ in 0..<50 { #expect(isPlanned(Self.messages, &generator)) }
  }

  private func isPlanned(_ messages: [[UInt8]], _ generator: inout Generator) -> Bool {
    var planner = Self.planner
    var pending = PendingMessages()
    var rest = messages[...]
    do {
      while !rest.isEmpty {
        var received = CopyMessages()
        for message in rest.prefix(Int.random(in: 1...8, using: &generator)) {
          received.messages.append(received.bytes.count..<received.bytes.count + message.count)
          received.bytes += message
        }
        rest = rest.dropFirst(received.messages.count)
        pending.append(received)
        while case .piece(let piece, _) = pending.take() {
          // As one that is applied change by change after its set was refused.
          var again = planner
          try piece.messages.bytes.withUnsafeBytes { buffer in
            _ = try planner.plan(buffer, piece.messages.messages, in: piece.lane, folding: true)
            _ = try again.plan(buffer, piece.messages.messages, in: piece.lane, folding: false)
          }
        }
      }
      return true
    } catch {
      return false
    }
  }

  private static func damaged(_ messages: [[UInt8]], _ generator: inout Generator) -> [[UInt8]] {
    var messages = messages
    for _ in 0..<Int.random(in: 1...3, using: &generator) where messages.count > 2 {
      let index = Int.random(in: messages.indices, using: &generator)
      let other = Int.random(in: messages.indices, using: &generator)
      switch Int.random(in: 0..<7, using: &generator) {
      case 0: messages.remove(at: index)
      case 1: messages.insert(messages[other], at: index)
      case 2: messages.swapAt(index, other)
      case 3:
        messages[index].removeLast(min(messages[index].count, Int.random(in: 1...30, using: &generator)))
      case 4: messages[index] += [0, 255, 1]
      default:
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !messages[index].isEmpty {
          let byte = Int.random(in: messages[index].indices, using: &generator)
          messages[index][byte] = .random(in: 0...255, using: &generator)
        }
      }
    }
    return messages
  }

  private static var planner: ChangePlanner {
    let table = TargetTable(
      relation: .fixture("notes", [("id", 23), ("body", 25)]),
      uniqueIndexes: [
        UniqueIndex(isPrimary: true, keys: [.init(column: "id", equality: "OPERATOR(pg_catalog.=)")])
      ],
      arrayForms: [
        23: .array(type: "integer[]", delimiter: UInt8(ascii: ","), isPlain: true),
        25: .array(type: "text[]", delimiter: UInt8(ascii: ","), isPlain: false),
      ], source: nil)
    return ChangePlanner(
      tables: StreamTables(
        target: [table.relation.name: table], snapshots: [1: (table.relation.name, LSN(rawValue: 1))],
        ignored: [], present: [], sourceLSN: .zero), streaming: .on)
  }

  private static let messages: [[UInt8]] = {
    var stream = StreamMessages()
    let columns = [
      StreamMessages.Column(name: "id", isKey: true, type: 23), StreamMessages.Column(name: "body"),
    ]
    stream.keepalive(5)
    stream.begin(10)
    stream.relation(1, "notes", columns)
    for row in 0..<40 { stream.insert(1, [.text("\(row)"), .text("x")]) }
    stream.update(1, [.text("1"), .unchanged])
    stream.update(1, key: [.text("2"), .null], [.text("200"), .text("y")])
    stream.delete(1, key: [.text("3"), .null])
    stream.commit(10, end: 11)
    stream.block(7, isFirst: true) { stream in
      stream.relation(1, "notes", columns)
      stream.insert(1, [.text("300"), .null])
    }
    stream.begin(20)
    stream.message("replicate.fence", "nonce")
    stream.truncate([1])
    stream.commit(20, end: 21)
    stream.block(7) { $0.delete(1, key: [.text("300"), .null]) }
    stream.streamCommit(7, 30, end: 31)
    stream.keepalive(40)
    return stream.ranges.map { Array(stream.bytes[$0]) }
  }()
}
