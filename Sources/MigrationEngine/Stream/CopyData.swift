import LibPQ

/// Rows as COPY takes them (manual, COPY, "File Formats").
struct CopyData {
  private let format: ValueFormat
  private let columnCount: Int
  private var bytes: [UInt8] = []
  private(set) var rowCount = 0
  /// How many values the row under construction has.
  private var values = 0

  /// - Parameter capacity: about how many bytes the rows will have.
  init(_ format: ValueFormat, columnCount: Int, capacity: Int = 0) {
    self.format = format
    self.columnCount = columnCount
    bytes.reserveCapacity(capacity)
    if format == .binary {
      bytes.append(contentsOf: Self.signature)
      // No flags, and no extension of the header.
      bytes.append(number: Int64(0))
    }
  }

  private static let signature = Array("PGCOPY\n".utf8) + [0xff] + Array("\r\n".utf8) + [0]

  /// Adds the next value of a row, in binary preceded by its length; nil for NULL.
  mutating func append(_ value: UnsafeRawBufferPointer?) {
    switch format {
    case .text:
      if values > 0 { bytes.append(UInt8(ascii: "\t")) }
      if let value {
        bytes.append(value, escaping: Self.escape)
      } else {
        bytes.append(contentsOf: #"\N"#.utf8)
      }
    case .binary:
      if values == 0 { bytes.append(number: Int16(columnCount)) }
      bytes.append(binary: value)
    }
    values += 1
  }

  mutating func endRow() {
    if format == .text { bytes.append(UInt8(ascii: "\n")) }
    values = 0
    rowCount += 1
  }

  /// Everything that COPY is to read.
  consuming func finished() -> [UInt8] {
    if format == .binary { bytes.append(number: Int16(-1)) }
    return bytes
  }

  private static func escape(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "\\"): byte
    case UInt8(ascii: "\t"): UInt8(ascii: "t")
    case UInt8(ascii: "\n"): UInt8(ascii: "n")
    case UInt8(ascii: "\r"): UInt8(ascii: "r")
    default: nil
    }
  }
}
