import LibPQ
import LogicalReplication

/// The form in which the source sends values. It is fixed for a whole START_REPLICATION: in binary, every
/// type that can be sent so is (manual, section 55.5.1, `binary`), even where it is another type on the
/// target.
enum StreamForm: Sendable {
  case text
  /// - wireTypes: whose binary form a type of the source has, by the types' OIDs.
  case binary(wireTypes: [UInt32: UInt32])

  var format: ValueFormat {
    switch self {
    case .text: .text
    case .binary: .binary
    }
  }

  /// Binary when it is exact for each column of each table that both ends have now; the stream may be behind
  /// that, so every relation message is checked again.
  /// - Returns: also the first column that prevents binary.
  static func best(for tables: StreamTables) -> (form: StreamForm, obstacle: String?) {
    var wireTypes: [UInt32: UInt32] = [:]
    for (name, _) in tables.snapshots.values {
      guard let target = tables.target[name], let source = target.source else { continue }
      let theirs = target.relation.columnsByName
      for column in source.copiedColumns {
        wireTypes[column.typeOID] = column.wireTypeOID
        guard let match = theirs[column.name], !isExact(column.wireTypeOID, match) else { continue }
        return (.text, obstacle(match, of: name))
      }
    }
    return (.binary(wireTypes: wireTypes), nil)
  }

  /// - Parameter columns: the target's, in the order of the message's.
  /// - Throws: `BinaryRefusal`.
  func check(_ message: RelationMessage, _ columns: [Column], of name: RelationName) throws {
    guard case .binary(let wireTypes) = self else { return }
    for (column, match) in zip(message.columns, columns)
    where !Self.isExact(wireTypes[column.typeOID] ?? column.typeOID, match) {
      throw BinaryRefusal(reason: Self.obstacle(match, of: name))
    }
  }

  private static func isExact(_ wireTypeOID: UInt32, _ target: Column) -> Bool {
    wireTypeOID == target.wireTypeOID && BinaryFormat.isExact(typeOID: wireTypeOID)
  }

  private static func obstacle(_ column: Column, of table: RelationName) -> String {
    "column \(SQL.identifier(column.name)) of table \(table) has no binary form that both ends read alike"
  }
}

/// Binary changes cannot be applied, or their error is not clear: they must be sent again as text.
struct BinaryRefusal: Error {
  var reason: String
}

extension StreamTable {
  /// A value as its own parameter, nil for NULL.
  @inline(__always)
  func parameter(
    _ value: ColumnValue, _ buffer: UnsafeRawBufferPointer
  ) throws -> UnsafeRawBufferPointer? {
    switch (value, format) {
    case (.null, _): return nil
    case (.text(let range), .text), (.binary(let range), .binary):
      return UnsafeRawBufferPointer(rebasing: buffer[range])
    default: throw incomplete
    }
  }

  /// A value as arrays, rows and COPY hold it, nil for NULL: in binary it includes the length that precedes
  /// it in the tuple.
  @inline(__always)
  func element(
    _ value: ColumnValue, _ buffer: UnsafeRawBufferPointer
  ) throws -> UnsafeRawBufferPointer? {
    switch (value, format) {
    case (.null, _): return nil
    case (.text(let range), .text): return UnsafeRawBufferPointer(rebasing: buffer[range])
    case (.binary(let range), .binary):
      return UnsafeRawBufferPointer(rebasing: buffer[range.lowerBound - 4..<range.upperBound])
    default: throw incomplete
    }
  }
}

extension StatementBatch {
  /// Adds a column's value as the next parameter.
  mutating func append(_ value: ColumnValue, _ buffer: UnsafeRawBufferPointer, of table: StreamTable) throws {
    if let bytes = try table.parameter(value, buffer) { append(bytes, table.format) } else { appendNull() }
  }
}
