import CLibPQ

/// The rows of a result in text form. For catalogs and state: bulk data goes by COPY.
package struct Rows: Sendable, RandomAccessCollection {
  private let names: [String: Int]
  private let cells: [[String?]]
  /// How many rows the command affected (manual, section 34.3.3 `PQcmdTuples`).
  package let affected: Int

  package var startIndex: Int { 0 }
  package var endIndex: Int { cells.count }
  /// - Precondition: `position` is one of `indices`.
  package subscript(position: Int) -> Row { Row(names: names, cells: cells[position]) }

  init(_ result: OpaquePointer) {
    let columns = PQnfields(result)
    var names: [String: Int] = [:]
    for column in 0..<columns {
      if let name = PQfname(result, column) { names[String(cString: name)] = Int(column) }
    }
    self.names = names
    cells = (0..<PQntuples(result)).map { row in
      (0..<columns).map { column in
        if PQgetisnull(result, row, column) == 1 { return nil }
        let length = Int(PQgetlength(result, row, column))
        let bytes = UnsafeRawBufferPointer(start: PQgetvalue(result, row, column), count: length)
        return String(decoding: bytes, as: UTF8.self)
      }
    }
    affected = Int(String(cString: PQcmdTuples(result))) ?? 0
  }

  /// One row; columns are looked up by name.
  package struct Row: Sendable {
    fileprivate let names: [String: Int]
    fileprivate let cells: [String?]

    /// The text of a column, nil for NULL.
    /// - Throws: `PostgresError` when the statement has no such column.
    package func optional(_ name: String) throws -> String? {
      guard let index = names[name], index < cells.count else {
        throw PostgresError(
          code: .unexpectedResult, action: "reading a result", message: "there is no column \"\(name)\"")
      }
      return cells[index]
    }

    /// The text of a column that has one.
    /// - Throws: `PostgresError` when it is NULL or there is no such column.
    package func text(_ name: String) throws -> String {
      guard let text = try optional(name) else { throw Self.unusable(name, "is NULL") }
      return text
    }

    /// A column as a number.
    /// - Throws: `PostgresError` when it is NULL, no integer, or does not fit the type.
    package func integer<Number: FixedWidthInteger>(_ name: String, as type: Number.Type = Int.self) throws
      -> Number
    {
      guard let number = Number(try text(name)) else { throw Self.unusable(name, "is not an integer") }
      return number
    }

    /// A column as a number, which may be `NaN` or `Infinity`.
    /// - Throws: `PostgresError` when it is NULL or no number.
    package func double(_ name: String) throws -> Double {
      guard let number = Double(try text(name)) else { throw Self.unusable(name, "is not a number") }
      return number
    }

    /// A column as PostgreSQL writes a boolean (manual, section 8.6), or a setting that is on or off.
    /// - Throws: `PostgresError` when it is NULL or another word.
    package func bool(_ name: String) throws -> Bool {
      switch try text(name) {
      case "t", "true", "on": true
      case "f", "false", "off": false
      default: throw Self.unusable(name, "is not a boolean")
      }
    }

    private static func unusable(_ name: String, _ why: String) -> PostgresError {
      PostgresError(code: .unexpectedResult, action: "reading a result", message: "column \"\(name)\" \(why)")
    }
  }
}
