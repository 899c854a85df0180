/// Statements with their parameters, to be run in one pipeline. All parameters are in one buffer, so that a
/// batch costs no allocation per row.
package struct StatementBatch: Sendable {
  /// One execution of a statement.
  package struct Call: Sendable {
    /// Index into `statements`.
    package var statement: Int
    /// Range in `parameters`.
    package var parameters: Range<Int>
    /// How many rows the statement must affect; nil when any number is right.
    var expectedRows: Int?
    /// Whether the statement is kept on the connection, with its plan; otherwise it is planned each time, for
    /// its parameters.
    var isPrepared: Bool
  }

  /// SQL texts; those of prepared calls are prepared once per connection.
  private(set) var statements: [String] = []
  /// In the order in which they are run.
  package private(set) var calls: [Call] = []
  /// Offsets of the values in `bytes`; -1 is NULL.
  private(set) var parameters: [Int] = []
  /// Lengths of the values; libpq uses only those of binary values.
  private(set) var lengths: [Int32] = []
  /// `ValueFormat` of the values.
  private(set) var formats: [Int32] = []
  /// Values, each ended by a zero byte, which libpq requires for texts.
  private(set) var bytes: [UInt8] = []
  private var indexes: [String: Int] = [:]

  private static let large = 1 << 20

  /// An empty batch.
  package init() {}

  /// Whether there is no call; parameters of a call that is not closed yet do not count.
  package var isEmpty: Bool { calls.isEmpty }
  /// Bytes of all values.
  package var byteCount: Int { bytes.count }

  /// Adds the value of the next parameter of the call under construction.
  package mutating func append(_ value: UnsafeRawBufferPointer, _ format: ValueFormat = .text) {
    // Doubling the buffer for the zero byte after a large value would cost as much memory again.
    if value.count >= Self.large { bytes.reserveCapacity(bytes.count + value.count + 1) }
    appendParameter(format) { $0.append(contentsOf: value) }
  }

  /// The same in text form.
  package mutating func append(_ value: String) {
    var value = value
    value.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Adds a parameter written in pieces.
  mutating func appendParameter(_ format: ValueFormat, _ write: (inout [UInt8]) throws -> Void) rethrows {
    let start = bytes.count
    try write(&bytes)
    parameters.append(start)
    lengths.append(Int32(bytes.count - start))
    formats.append(format.rawValue)
    bytes.append(0)
  }

  /// Adds NULL as the next parameter.
  package mutating func appendNull() {
    parameters.append(-1)
    lengths.append(0)
    formats.append(ValueFormat.text.rawValue)
  }

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

  /// Empties the batch and keeps its memory for the next.
  package mutating func removeAll() {
    statements.removeAll(keepingCapacity: true)
    indexes.removeAll(keepingCapacity: true)
    calls.removeAll(keepingCapacity: true)
    parameters.removeAll(keepingCapacity: true)
    lengths.removeAll(keepingCapacity: true)
    formats.removeAll(keepingCapacity: true)
    bytes.removeAll(keepingCapacity: true)
  }

  /// The parameters of a call as texts, if they are: for tests and for errors that name keys' columns, never
  /// for logs.
  package func texts(of call: Call) -> [String?] {
    values(of: call).map { $0.map { String(decoding: $0, as: UTF8.self) } }
  }

  /// The bytes of the parameters of a call, nil for NULL.
  package func values(of call: Call) -> [ArraySlice<UInt8>?] {
    call.parameters.map { index in
      let start = parameters[index]
      return start >= 0 ? bytes[start..<start + Int(lengths[index])] : nil
    }
  }
}
