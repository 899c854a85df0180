/// The format of a value, as numbered in the protocol (manual, section 55.1.3 "Formats and Format Codes").
package enum ValueFormat: Int32, Sendable {
  /// The type's text output.
  case text = 0
  /// The type's `send` output.
  case binary = 1
}

extension [UInt8] {
  /// Appends a number in network byte order.
  @inlinable
  package mutating func append(number: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: number.bigEndian) { append(contentsOf: $0) }
  }

  /// Overwrites bytes with a number in network byte order.
  mutating func replace(at offset: Int, number: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: number.bigEndian) { bytes in
      for index in bytes.indices { self[offset + index] = bytes[index] }
    }
  }

  /// Appends a value in binary as arrays, rows and COPY hold it.
  /// - Parameter value: preceded by its length, as in the stream; nil for NULL.
  @inlinable
  package mutating func append(binary value: UnsafeRawBufferPointer?) {
    if let value { append(contentsOf: value) } else { append(number: Int32(-1)) }
  }
}
