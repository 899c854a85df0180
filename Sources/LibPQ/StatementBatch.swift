/// Statements with their parameters, to be run in one pipeline: what is to be done, without doing it.
/// All parameters lie in one buffer, so that a batch costs no allocation a row.
package struct StatementBatch: Sendable {
  /// One execution of a statement.
  package struct Call: Sendable {
    /// Index into `statements`.
    package var statement: Int
    /// Range in `parameters`.
    package var parameters: Range<Int>
    /// Rows that the statement must touch; nil when any number is right.
    package var expectedRows: Int?
    /// Whether the statement is kept on the connection, with its plan; otherwise it is planned each time, for
    /// its parameters.
    package var isPrepared: Bool
  }

  /// SQL texts; those of prepared calls are prepared once a connection.
  package private(set) var statements: [String] = []
  package private(set) var calls: [Call] = []
  /// Offsets of the values in `bytes`; -1 is NULL.
  private(set) var parameters: [Int] = []
  /// Values in text form, each ended by a zero byte as libpq wants it.
  private(set) var bytes: [UInt8] = []
  private var indexes: [String: Int] = [:]

  package init() {}

  package var isEmpty: Bool { calls.isEmpty }
  /// Bytes of all values.
  package var byteCount: Int { bytes.count }

  /// Adds the value of the next parameter of the call that is being put together.
  package mutating func append(_ value: UnsafeRawBufferPointer) {
    parameters.append(bytes.count)
    bytes.append(contentsOf: value)
    bytes.append(0)
  }

  package mutating func append(_ value: String) {
    var value = value
    value.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Adds a parameter whose text is written in pieces.
  mutating func appendParameter(_ write: (inout [UInt8]) -> Void) {
    parameters.append(bytes.count)
    write(&bytes)
    bytes.append(0)
  }

  package mutating func appendNull() { parameters.append(-1) }

  /// Closes a call: its parameters are those added since the last.
  package mutating func call(_ sql: String, expectedRows: Int?, isPrepared: Bool = true) {
    let statement = indexes[sql] ?? statements.count
    if statement == statements.count {
      statements.append(sql)
      indexes[sql] = statement
    }
    let first = calls.last?.parameters.upperBound ?? 0
    calls.append(
      Call(
        statement: statement, parameters: first..<parameters.count, expectedRows: expectedRows,
        isPrepared: isPrepared))
  }

  package mutating func removeAll() {
    statements.removeAll(keepingCapacity: true)
    indexes.removeAll(keepingCapacity: true)
    calls.removeAll(keepingCapacity: true)
    parameters.removeAll(keepingCapacity: true)
    bytes.removeAll(keepingCapacity: true)
  }

  /// The parameters of a call as texts: for tests and for errors that name keys' columns, never for logs.
  package func texts(of call: Call) -> [String?] {
    call.parameters.map { index in
      let start = parameters[index]
      guard start >= 0 else { return nil }
      let end = bytes[start...].firstIndex(of: 0) ?? bytes.count
      return String(decoding: bytes[start..<end], as: UTF8.self)
    }
  }
}
