/// The columns of one row, left where they arrived: offsets into the buffer that was decoded, and nothing
/// copied.
///
/// The decoder has checked every column's kind and length. It is valid only together with that buffer.
/// (PostgreSQL manual, "Logical Replication Message Formats", TupleData.)
package struct TupleData: Hashable, Sendable {
  /// Where the columns lie, without the count that precedes them.
  package let bytes: Range<Int>
  /// As many as the relation's, in a matching tuple.
  package let columnCount: Int

  /// The values in the order of the relation's columns. `buffer` must be the one that was decoded; with
  /// another one the values are meaningless, but nothing outside it is ever read: the sequence ends where
  /// the bytes stop making sense, so fewer than `columnCount` values mean a wrong buffer.
  @inlinable
  package func columns(in buffer: UnsafeRawBufferPointer) -> TupleColumns {
    TupleColumns(tuple: self, buffer: buffer)
  }
}

/// One column of a tuple; ranges are offsets into the buffer that was decoded.
package enum ColumnValue: Hashable, Sendable {
  /// NULL, and nothing was sent for it.
  case null
  /// An out-of-line value that the UPDATE did not change; the server does not send it.
  case unchangedTOAST
  /// The type's text output, in the client encoding.
  case text(Range<Int>)
  /// The type's `send` output.
  case binary(Range<Int>)

  /// Where the value lies, in whichever form it is.
  @inlinable
  package var bytes: Range<Int>? {
    switch self {
    case .text(let range), .binary(let range): range
    case .null, .unchangedTOAST: nil
    }
  }

  /// Whether the server did not send it because the UPDATE did not change it.
  @inlinable
  package var isUnchangedTOAST: Bool {
    if case .unchangedTOAST = self { true } else { false }
  }
}

/// The columns of a tuple one after another; it must not outlive the buffer's memory.
package struct TupleColumns: Sequence, IteratorProtocol {
  @usableFromInline let buffer: UnsafeRawBufferPointer
  @usableFromInline var offset: Int
  @usableFromInline let end: Int
  @usableFromInline var columnsLeft: Int

  @inlinable
  init(tuple: TupleData, buffer: UnsafeRawBufferPointer) {
    self.buffer = buffer
    offset = tuple.bytes.lowerBound
    end = Swift.min(tuple.bytes.upperBound, buffer.count)
    columnsLeft = tuple.bytes.lowerBound >= 0 ? tuple.columnCount : 0
  }

  @inlinable
  package mutating func next() -> ColumnValue? {
    guard columnsLeft > 0, offset < end else { return nil }
    columnsLeft -= 1
    let kind = buffer[offset]
    offset += 1
    switch kind {
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "u"): return .unchangedTOAST
    case UInt8(ascii: "t"): return value().map { .text($0) }
    case UInt8(ascii: "b"): return value().map { .binary($0) }
    default:
      columnsLeft = 0
      return nil
    }
  }

  @inlinable
  mutating func value() -> Range<Int>? {
    guard end - offset >= 4 else {
      columnsLeft = 0
      return nil
    }
    let length = Int(Int32(bigEndian: buffer.loadUnaligned(fromByteOffset: offset, as: Int32.self)))
    let start = offset + 4
    guard length >= 0, length <= end - start else {
      columnsLeft = 0
      return nil
    }
    offset = start + length
    return start..<offset
  }
}

extension TupleData {
  /// Int16 count; for each column a kind, and for 't' and 'b' an Int32 length and the value.
  init(_ reader: inout ByteReader) throws(ProtocolViolation) {
    let count = Int(try reader.i16())
    guard count >= 0 else { throw reader.violation(.negativeCount(field: "number of columns")) }
    let start = reader.offset
    for _ in 0..<count {
      switch try reader.u8() {
      case UInt8(ascii: "n"), UInt8(ascii: "u"): break
      case UInt8(ascii: "t"), UInt8(ascii: "b"): _ = try reader.bytes(Int(try reader.i32()))
      default: throw reader.violation(.unknownValue(field: "column kind"))
      }
    }
    bytes = start..<reader.offset
    columnCount = count
  }
}
