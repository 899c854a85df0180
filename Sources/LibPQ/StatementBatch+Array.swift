/// How the elements of an array are written (manual, section 8.15.6).
package struct ArraySyntax: Sendable {
  /// What the type says in `pg_type.typdelim`: a comma for nearly all.
  package var delimiter: UInt8
  /// No element needs quotes.
  package var isPlain: Bool

  package init(delimiter: UInt8, isPlain: Bool) {
    self.delimiter = delimiter
    self.isPlain = isPlain
  }
}

extension StatementBatch {
  /// Adds an array as the next parameter of the call that is being put together.
  /// - Parameter element: the text of an element, nil for NULL.
  package mutating func appendArray(
    count: Int, _ syntax: ArraySyntax, element: (Int) -> UnsafeRawBufferPointer?
  ) {
    appendParameter { bytes in
      bytes.append(UInt8(ascii: "{"))
      for index in 0..<count {
        if index > 0 { bytes.append(syntax.delimiter) }
        guard let text = element(index) else {
          bytes.append(contentsOf: "NULL".utf8)
          continue
        }
        if syntax.isPlain {
          bytes.append(contentsOf: text)
        } else {
          bytes.append(UInt8(ascii: "\""))
          bytes.append(text, escaping: { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") ? $0 : nil })
          bytes.append(UInt8(ascii: "\""))
        }
      }
      bytes.append(UInt8(ascii: "}"))
    }
  }
}

extension [UInt8] {
  /// Appends text with a backslash and another byte for each byte that needs it; what lies between is moved
  /// at once.
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
