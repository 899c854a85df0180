import Testing

@testable import LogicalReplication

/// One message of every shape, as bytes.
struct SampleMessage: CustomTestStringConvertible {
  let name: String
  let bytes: [UInt8]
  var isInStream = false
  var streaming = PgOutputStreaming.on

  var testDescription: String { name }

  func decoder() throws -> PgOutputDecoder {
    var decoder = PgOutputDecoder(version: .four, streaming: streaming)
    if isInStream { _ = try decoder.decode(Self.streamStart) }
    return decoder
  }

  /// As the manual's chapter on the message formats has it.
  var firstVersion: PgOutputVersion {
    if streaming == .parallel { return .four }
    switch bytes.first.map({ Character(Unicode.Scalar($0)) }) {
    case "S", "E", "c", "A": return .two
    default: return isInStream ? .two : .one
    }
  }

  static let streamStart = MessageEncoder.message("S") {
    $0.int(UInt32(700))
    $0.int(UInt8(1))
  }

  static let all = transactions + rows + inStream + streams

  static let row: [MessageEncoder.Column] = [
    .text("1"), .null, .unchangedTOAST, .binary([0, 255]), .text(""),
  ]

  static let transactions = [
    SampleMessage(name: "Begin", bytes: MessageEncoder.message("B", lsnTimeXID)),
    SampleMessage(name: "Commit", bytes: MessageEncoder.message("C", flagsLSNs)),
    SampleMessage(
      name: "Origin",
      bytes: MessageEncoder.message("O") {
        $0.int(UInt64(0xABCD))
        $0.string("elsewhere")
      }),
    SampleMessage(name: "Message", bytes: logicalMessage(xid: nil)),
    SampleMessage(name: "Relation", bytes: relation(xid: nil)),
    SampleMessage(name: "Type", bytes: type(xid: nil)),
  ]

  static let rows = [
    SampleMessage(name: "Insert", bytes: insert(xid: nil)),
    SampleMessage(name: "Update", bytes: update(xid: nil, old: nil)),
    SampleMessage(name: "Update with key", bytes: update(xid: nil, old: "K")),
    SampleMessage(name: "Update with old row", bytes: update(xid: nil, old: "O")),
    SampleMessage(name: "Delete by key", bytes: delete(xid: nil, "K")),
    SampleMessage(name: "Delete by old row", bytes: delete(xid: nil, "O")),
    SampleMessage(name: "Truncate", bytes: truncate(xid: nil)),
  ]

  static let inStream = [
    ("Message", logicalMessage(xid: 701)), ("Relation", relation(xid: 701)), ("Type", type(xid: 701)),
    ("Insert", insert(xid: 701)), ("Update", update(xid: 701, old: nil)),
    ("Update with key", update(xid: 701, old: "K")), ("Update with old row", update(xid: 701, old: "O")),
    ("Delete by key", delete(xid: 701, "K")), ("Delete by old row", delete(xid: 701, "O")),
    ("Truncate", truncate(xid: 701)), ("Stream Stop", MessageEncoder.message("E")),
  ].map { SampleMessage(name: "\($0.0) in a stream", bytes: $0.1, isInStream: true) }

  static let streams = [
    SampleMessage(name: "Stream Start", bytes: streamStart),
    SampleMessage(
      name: "Stream Commit",
      bytes: MessageEncoder.message("c") {
        $0.int(UInt32(700))
        flagsLSNs(&$0)
      }),
    SampleMessage(
      name: "Stream Abort",
      bytes: MessageEncoder.message("A") {
        $0.int(UInt32(700))
        $0.int(UInt32(701))
      }),
    SampleMessage(
      name: "Stream Abort in parallel",
      bytes: MessageEncoder.message("A") {
        $0.int(UInt32(700))
        $0.int(UInt32(701))
        $0.int(UInt64(0x1_0000_0010))
        $0.int(Int64(77))
      }, streaming: .parallel),
  ]

  static func logicalMessage(xid: UInt32?) -> [UInt8] {
    MessageEncoder.message("M", xid: xid) {
      $0.int(UInt8(1))
      $0.int(UInt64(0x20))
      $0.string("prefix")
      $0.value([1, 2, 3])
    }
  }

  static func relation(xid: UInt32?, schema: String = "public") -> [UInt8] {
    MessageEncoder.message("R", xid: xid) {
      $0.int(UInt32(16_385))
      $0.string(schema)
      $0.string("Bücher")
      $0.byte("d")
      $0.int(Int16(2))
      $0.int(UInt8(1))
      $0.string("id")
      $0.int(UInt32(23))
      $0.int(Int32(-1))
      $0.int(UInt8(0))
      $0.string("price")
      $0.int(UInt32(1700))
      $0.int(Int32(655_366))
    }
  }

  static func type(xid: UInt32?) -> [UInt8] {
    MessageEncoder.message("Y", xid: xid) {
      $0.int(UInt32(16_400))
      $0.string("public")
      $0.string("mood")
    }
  }

  static func insert(xid: UInt32?) -> [UInt8] {
    MessageEncoder.message("I", xid: xid) {
      $0.int(UInt32(16_385))
      $0.tuple("N", row)
    }
  }

  static func update(xid: UInt32?, old: Character?) -> [UInt8] {
    MessageEncoder.message("U", xid: xid) {
      $0.int(UInt32(16_385))
      if let old { $0.tuple(old, [.text("0"), .null]) }
      $0.tuple("N", row)
    }
  }

  static func delete(xid: UInt32?, _ kind: Character) -> [UInt8] {
    MessageEncoder.message("D", xid: xid) {
      $0.int(UInt32(16_385))
      $0.tuple(kind, [.text("0"), .null])
    }
  }

  static func truncate(xid: UInt32?, options: UInt8 = 3) -> [UInt8] {
    MessageEncoder.message("T", xid: xid) {
      $0.int(Int32(2))
      $0.int(options)
      $0.int(UInt32(16_385))
      $0.int(UInt32(16_390))
    }
  }

  private static func lsnTimeXID(_ encoder: inout MessageEncoder) {
    encoder.int(UInt64(0x16_B374_D848))
    encoder.int(Int64(-5))
    encoder.int(UInt32(700))
  }

  private static func flagsLSNs(_ encoder: inout MessageEncoder) {
    encoder.int(UInt8(0))
    encoder.int(UInt64(0x10))
    encoder.int(UInt64(0x20))
    encoder.int(Int64(30))
  }

}

extension PgOutputDecoder {
  mutating func decode(_ bytes: [UInt8]) throws(ProtocolViolation) -> PgOutputMessage {
    try decode(bytes, 0..<bytes.count)
  }

  mutating func decode(_ bytes: [UInt8], _ range: Range<Int>) throws(ProtocolViolation) -> PgOutputMessage {
    let outcome = bytes.withUnsafeBytes { buffer in
      Result { () throws(ProtocolViolation) in try decode(buffer, range) }
    }
    return try outcome.get()
  }
}

extension TupleData {
  /// The values spelled out, for comparison.
  func values(in bytes: [UInt8]) -> [String] {
    bytes.withUnsafeBytes { buffer in
      columns(in: buffer).map { column in
        switch column {
        case .null: "null"
        case .unchangedTOAST: "unchanged"
        case .text(let range): "text " + String(decoding: buffer[range], as: UTF8.self)
        case .binary(let range): "binary \(Array(buffer[range]))"
        }
      }
    }
  }
}
