/// Reads network-order values from a part of a buffer and never leaves that part.
///
/// It borrows the buffer: it must not outlive the buffer's memory. After an error the position is
/// unspecified.
struct ByteReader {
  private let buffer: UnsafeRawBufferPointer
  private let start: Int
  private let end: Int
  private let layer: ProtocolViolation.Layer

  /// The position of the next byte, as an offset in the whole buffer.
  private(set) var offset: Int

  /// The kind of message being read, for errors only.
  var tag: UInt8?

  init(
    _ buffer: UnsafeRawBufferPointer, _ range: Range<Int>, layer: ProtocolViolation.Layer
  ) throws(ProtocolViolation) {
    guard range.lowerBound >= 0, range.upperBound <= buffer.count else {
      throw ProtocolViolation(
        layer: layer, tag: nil, problem: .rangeOutsideBuffer, offset: 0, byteCount: buffer.count)
    }
    self.buffer = buffer
    self.layer = layer
    start = range.lowerBound
    end = range.upperBound
    offset = range.lowerBound
  }

  var remaining: Int { end - offset }

  mutating func u8() throws(ProtocolViolation) -> UInt8 {
    try integer(UInt8.self)
  }

  mutating func u16() throws(ProtocolViolation) -> UInt16 {
    try integer(UInt16.self)
  }

  mutating func u32() throws(ProtocolViolation) -> UInt32 {
    try integer(UInt32.self)
  }

  mutating func u64() throws(ProtocolViolation) -> UInt64 {
    try integer(UInt64.self)
  }

  mutating func i16() throws(ProtocolViolation) -> Int16 {
    try integer(Int16.self)
  }

  mutating func i32() throws(ProtocolViolation) -> Int32 {
    try integer(Int32.self)
  }

  mutating func i64() throws(ProtocolViolation) -> Int64 {
    try integer(Int64.self)
  }

  mutating func lsn() throws(ProtocolViolation) -> LSN {
    LSN(rawValue: try u64())
  }

  mutating func time() throws(ProtocolViolation) -> PostgresTime {
    PostgresTime(microseconds: try i64())
  }

  /// A byte that says yes (1) or no (0) and nothing else.
  mutating func flag(_ field: String) throws(ProtocolViolation) -> Bool {
    switch try u8() {
    case 0: false
    case 1: true
    default: throw violation(.unknownValue(field: field))
    }
  }

  /// A string up to its NUL, which is consumed and not part of the result.
  mutating func string() throws(ProtocolViolation) -> String {
    let rest = UnsafeRawBufferPointer(rebasing: buffer[offset..<end])
    guard let length = rest.firstIndex(of: 0) else { throw violation(.unterminatedString) }
    let bytes = UnsafeRawBufferPointer(rebasing: rest[..<length])
    guard let text = String(validating: bytes, as: UTF8.self) else { throw violation(.invalidUTF8) }
    offset += length + 1
    return text
  }

  /// Steps over `count` bytes and says where they lie in the whole buffer.
  mutating func bytes(_ count: Int) throws(ProtocolViolation) -> Range<Int> {
    guard count >= 0 else { throw violation(.negativeCount(field: "length")) }
    try require(count)
    let range = offset..<(offset + count)
    offset += count
    return range
  }

  /// Every message ends exactly where its bytes end.
  func finish() throws(ProtocolViolation) {
    guard remaining == 0 else { throw violation(.trailingBytes) }
  }

  func violation(_ problem: ProtocolViolation.Problem) -> ProtocolViolation {
    ProtocolViolation(
      layer: layer, tag: tag, problem: problem, offset: offset - start, byteCount: end - start)
  }

  private func require(_ count: Int) throws(ProtocolViolation) {
    guard remaining >= count else { throw violation(.truncated(needed: count - remaining)) }
  }

  @inline(__always)
  private mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(
    _: Value.Type
  ) throws(ProtocolViolation) -> Value {
    let size = MemoryLayout<Value>.size
    try require(size)
    let value = buffer.loadUnaligned(fromByteOffset: offset, as: Value.self)
    offset += size
    return Value(bigEndian: value)
  }
}
