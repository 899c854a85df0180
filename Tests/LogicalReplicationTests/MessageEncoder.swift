@testable import LogicalReplication

/// Writes messages the way pgoutput does, so that what the decoder reads was never made by the decoder.
struct MessageEncoder {
  enum Column {
    case null
    case unchangedTOAST
    case text(String)
    case binary([UInt8])
  }

  private(set) var bytes: [UInt8] = []

  init(_ tag: Character, xid: UInt32? = nil) {
    byte(tag)
    if let xid { int(xid) }
  }

  mutating func byte(_ character: Character) {
    bytes.append(contentsOf: String(character).utf8)
  }

  mutating func int(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func string(_ text: String) {
    bytes.append(contentsOf: text.utf8)
    bytes.append(0)
  }

  mutating func value(_ content: [UInt8]) {
    int(Int32(content.count))
    bytes.append(contentsOf: content)
  }

  mutating func tuple(_ kind: Character, _ columns: [Column]) {
    byte(kind)
    int(Int16(columns.count))
    for column in columns {
      switch column {
      case .null: byte("n")
      case .unchangedTOAST: byte("u")
      case .text(let text):
        byte("t")
        value(Array(text.utf8))
      case .binary(let content):
        byte("b")
        value(content)
      }
    }
  }

  static func message(
    _ tag: Character, xid: UInt32? = nil, _ write: (inout MessageEncoder) -> Void = { _ in }
  ) -> [UInt8] {
    var encoder = MessageEncoder(tag, xid: xid)
    write(&encoder)
    return encoder.bytes
  }
}
