import Foundation
import Testing

@testable import LogicalReplication

/// SplitMix64: the same seed gives the same buffers, so a crash can be repeated.
private struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// Nothing that can arrive makes the decoder trap or hand out a range outside its input.
///
/// `REPLICATE_FUZZ_ROUNDS` sets the buffers that each test tries: a few seconds' worth for every change, many
/// millions for a night.
struct FuzzTests {
  private static let rounds =
    ProcessInfo.processInfo.environment["REPLICATE_FUZZ_ROUNDS"].flatMap(Int.init) ?? 5000

  private struct Tally {
    var accepted = 0
    var refused = 0
  }

  @Test(arguments: [
    (UInt64(1), PgOutputVersion.one, PgOutputStreaming.off), (2, .two, .on), (3, .three, .on),
    (4, .four, .on),
    (5, .four, .parallel),
  ])
  func `damaged messages are refused or decoded, and never crash`(
    seed: UInt64, version: PgOutputVersion, streaming: PgOutputStreaming
  ) {
    var generator = SplitMix64(state: seed)
    let samples = SampleMessage.all
    var tally = Tally()
    var decoder = PgOutputDecoder(version: version, streaming: streaming)
    for _ in 0..<Self.rounds {
      guard let sample = samples.randomElement(using: &generator) else { return }
      attempt(mutated(sample.bytes, &generator), &decoder, &tally)
    }
    #expect(tally.accepted > Self.rounds / 100)
    #expect(tally.refused > Self.rounds / 100)
  }

  @Test(arguments: [6, 7] as [UInt64])
  func `random bytes never crash`(seed: UInt64) {
    var generator = SplitMix64(state: seed)
    let tags = Array(Set(SampleMessage.all.compactMap(\.bytes.first))).sorted()
    var tally = Tally()
    var decoder = PgOutputDecoder(version: .four, streaming: .on)
    for _ in 0..<Self.rounds {
      var bytes = (0..<Int.random(in: 0..<40, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator) & (Bool.random(using: &generator) ? 0xFF : 0x03)
      }
      if let tag = tags.randomElement(using: &generator), !bytes.isEmpty { bytes[0] = tag }
      attempt(bytes, &decoder, &tally)
    }
    #expect(tally.refused > Self.rounds / 100)
  }

  @Test func `damaged frames never crash`() {
    var generator = SplitMix64(state: 8)
    var accepted = 0
    for _ in 0..<Self.rounds {
      let valid =
        Bool.random(using: &generator) ? ReplicationFrameTests.xLogData : ReplicationFrameTests.keepalive
      let bytes = mutated(valid, &generator)
      let frame = bytes.withUnsafeBytes { buffer in try? ReplicationFrame(buffer, 0..<buffer.count) }
      guard let frame else { continue }
      accepted += 1
      if case .xLogData(let data) = frame { #expect(data.payload.upperBound == bytes.count) }
    }
    #expect(accepted > Self.rounds / 100)
  }

  private func mutated(_ original: [UInt8], _ generator: inout SplitMix64) -> [UInt8] {
    var bytes = original
    for _ in 0..<Int.random(in: 0...3, using: &generator) where !bytes.isEmpty {
      let index = Int.random(in: 0..<bytes.count, using: &generator)
      switch Int.random(in: 0..<5, using: &generator) {
      case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 1: bytes[index] = UInt8.random(in: 0...255, using: &generator)
      case 2: bytes.remove(at: index)
      case 3: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: index)
      default: bytes.removeSubrange(index...)
      }
    }
    return bytes
  }

  private func attempt(_ bytes: [UInt8], _ decoder: inout PgOutputDecoder, _ tally: inout Tally) {
    do throws(ProtocolViolation) {
      let message = try decoder.decode(bytes)
      tally.accepted += 1
      for tuple in tuples(of: message) where tuple.values(in: bytes).count != tuple.columnCount {
        Issue.record("a tuple of \(tuple.columnCount) columns was accepted but cannot be read: \(bytes)")
      }
    } catch {
      tally.refused += 1
    }
  }

  private func tuples(of message: PgOutputMessage) -> [TupleData] {
    switch message {
    case .insert(let insert): [insert.new]
    case .update(let update): [update.new] + (update.old.map { [$0.tuple] } ?? [])
    case .delete(let delete): [delete.old.tuple]
    default: []
    }
  }
}
