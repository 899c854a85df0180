/// How an array is written.
package enum ArraySyntax: Sendable {
  /// As text (manual, section 8.15.6).
  /// - delimiter: the type's `pg_type.typdelim`: a comma for nearly all.
  /// - isPlain: no element needs quotes.
  case text(delimiter: UInt8, isPlain: Bool)
  /// In binary, of elements in binary.
  case binary(elementOID: UInt32)
}

/// A composite type as described in its binary form: the server refuses others.
package struct RowSyntax: Sendable {
  /// `pg_type.oid` of the composite type.
  package var typeOID: UInt32
  /// The types of all columns, in order.
  var columnOIDs: [UInt32]

  /// - Parameter columnOIDs: types of all columns, in their order; dropped columns left out.
  package init(typeOID: UInt32, columnOIDs: [UInt32]) {
    self.typeOID = typeOID
    self.columnOIDs = columnOIDs
  }
}

extension StatementBatch {
  /// Adds an array as the next parameter of the call under construction.
  /// - Parameter element: an element in the array's own format, in binary preceded by its length; nil for
  ///   NULL.
  package mutating func appendArray(
    count: Int, _ syntax: ArraySyntax, element: (Int) throws -> UnsafeRawBufferPointer?
  ) rethrows {
    switch syntax {
    case .text(let delimiter, let isPlain):
      try appendParameter(.text) { bytes in
        bytes.append(UInt8(ascii: "{"))
        for index in 0..<count {
          if index > 0 { bytes.append(delimiter) }
          bytes.append(element: try element(index), isPlain: isPlain)
        }
        bytes.append(UInt8(ascii: "}"))
      }
    case .binary(let elementOID):
      try appendParameter(.binary) { bytes in
        let flags = bytes.appendArrayHeader(count: count, elementOID: elementOID)
        for index in 0..<count {
          let value = try element(index)
          if value == nil { bytes.replace(at: flags, number: Int32(1)) }
          bytes.append(binary: value)
        }
      }
    }
  }

  /// Adds an array of rows, in binary, as the next parameter of the call under construction.
  /// - Parameter value: a column's value in binary preceded by its length, nil for NULL, by row and column.
  package mutating func appendRows(
    count: Int, _ syntax: RowSyntax, value: (Int, Int) throws -> UnsafeRawBufferPointer?
  ) rethrows {
    try appendParameter(.binary) { bytes in
      _ = bytes.appendArrayHeader(count: count, elementOID: syntax.typeOID)
      for row in 0..<count {
        let start = bytes.count
        bytes.append(number: Int32(0))
        bytes.append(number: Int32(syntax.columnOIDs.count))
        for (column, typeOID) in syntax.columnOIDs.enumerated() {
          bytes.append(number: typeOID)
          bytes.append(binary: try value(row, column))
        }
        bytes.replace(at: start, number: Int32(bytes.count - start - 4))
      }
    }
  }
}

extension [UInt8] {
  /// Appends an element of an array's text.
  fileprivate mutating func append(element text: UnsafeRawBufferPointer?, isPlain: Bool) {
    guard let text else {
      append(contentsOf: "NULL".utf8)
      return
    }
    guard !isPlain else {
      append(contentsOf: text)
      return
    }
    append(UInt8(ascii: "\""))
    append(text, escaping: { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") ? $0 : nil })
    append(UInt8(ascii: "\""))
  }

  /// Appends what `array_recv` reads before the elements: one dimension, counted from 1.
  /// - Returns: the position of the flag for NULLs; it says no.
  fileprivate mutating func appendArrayHeader(count: Int, elementOID: UInt32) -> Int {
    append(number: Int32(1))
    let flags = self.count
    append(number: Int32(0))
    append(number: elementOID)
    append(number: Int32(count))
    append(number: Int32(1))
    return flags
  }

  /// Appends text, escaping each byte that needs it with a backslash; runs in between are copied at once.
  package mutating func append(_ text: UnsafeRawBufferPointer, escaping: (UInt8) -> UInt8?) {
    var start = 0
    for offset in text.indices {
      guard let escape = escaping(text[offset]) else { continue }
      append(contentsOf: text[start..<offset])
      append(UInt8(ascii: "\\"))
      append(escape)
      start = offset + 1
    }
    append(contentsOf: text[start...])
  }
}
