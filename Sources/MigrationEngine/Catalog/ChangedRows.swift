import LibPQ

/// Which rows of a table a stream has changed.
enum ChangedRows: Sendable {
  /// They are not known or too many, or the table was truncated.
  case all
  /// By their keys; a new stream form, or new columns of the table, begin another batch.
  case keys([ChangedKeys])
}

/// Keys of rows as received in a stream, back to back in one buffer. The same key may occur many times.
struct ChangedKeys: Sendable {
  struct Column: Sendable, Equatable {
    var name: String
    /// `pg_attribute.atttypid` on the end that sent it.
    var typeOID: UInt32
  }

  /// The key's columns in the order of the values.
  let columns: [Column]
  /// The values' format: the types' text or `send` output.
  let format: ValueFormat
  private var bytes: [UInt8] = []
  /// Where each value ends.
  private var ends: [Int] = []

  init(columns: [Column], format: ValueFormat) {
    self.columns = columns
    self.format = format
  }

  var count: Int { columns.isEmpty ? 0 : ends.count / columns.count }
  /// Memory used by the values.
  var byteCount: Int { bytes.count + ends.count * MemoryLayout<Int>.stride }

  /// Adds a value; a key is one value per column, in order. Keys have no NULLs.
  mutating func append(_ value: UnsafeRawBufferPointer) {
    bytes.append(contentsOf: value)
    ends.append(bytes.count)
  }

  /// The bytes of one value.
  func value(row: Int, column: Int) -> ArraySlice<UInt8> {
    let index = row * columns.count + column
    return bytes[(index == 0 ? 0 : ends[index - 1])..<ends[index]]
  }
}
