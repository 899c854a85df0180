import CLibPQ

/// What went wrong on a connection, so that an operator can act: what was being done to which object, what
/// the server said, and whether retrying can help.
package struct PostgresError: Error, Sendable, CustomStringConvertible {
  /// Who or what refused.
  package enum Code: Sendable, Equatable {
    /// No connection, or the connection was lost.
    case connection
    /// The server refused a statement; `sqlState` says why.
    case server
    /// The answer was not what the protocol allows at this point.
    case unexpectedResult
    /// A wait reached its time limit.
    case timedOut
    /// The connection string cannot be used.
    case connectionString
  }

  /// Decides whether a retry may help: see `isConnectionLoss` and `mayPass`.
  package var code: Code
  /// What was being done to which object, as a phrase: "copying \"public\".\"orders\"".
  package var action: String
  /// The server's or libpq's message; values of rows are removed.
  package var message: String
  /// Nil where it did not come from a server (manual, appendix A).
  package var sqlState: SQLState?
  var detail: String?
  /// What to do next: the server's hint or one of ours.
  package var hint: String?
  /// Schema, table, column, constraint: the names in the server's error, if any.
  package var objects: [String]
  /// For a failed connection attempt: something accepted the connection, whatever followed. What answers,
  /// with any error, is there.
  package var isAnswered = false

  /// - Parameters:
  ///   - action: what was being done to which object; the end's name is put before it.
  ///   - objects: names in the server's error; printed in brackets.
  package init(
    code: Code, action: String, message: String, sqlState: SQLState? = nil, detail: String? = nil,
    hint: String? = nil, objects: [String] = []
  ) {
    self.code = code
    self.action = action
    self.message = message
    self.sqlState = sqlState
    self.detail = detail
    self.hint = hint
    self.objects = objects
  }

  package var description: String {
    var text = "\(action): \(message)"
    if let sqlState { text += " (SQLSTATE \(sqlState))" }
    if !objects.isEmpty { text += " [\(objects.joined(separator: ", "))]" }
    if let detail { text += "\n  detail: \(detail)" }
    if let hint { text += "\n  hint: \(hint)" }
    return text
  }

  /// Whether the connection is gone, does not answer in time, or was refused, so that a new one may help. It
  /// does not mean that nothing is there.
  package var isConnectionLoss: Bool {
    if code == .connection || code == .timedOut { return true }
    guard let sqlState else { return false }
    return sqlState.errorClass == "08" || ["57P01", "57P02", "57P03", "57P05"].contains(sqlState.rawValue)
  }

  /// Whether the server is in a state that ends by itself or by its operator's action: disk full, out of
  /// memory, no more sessions, read-only for a while, another session's lock, or a statement that an
  /// administrator cancelled. A later retry may succeed.
  package var mayPass: Bool {
    guard code == .server, let sqlState, sqlState != .configurationLimitExceeded else { return false }
    return sqlState.errorClass == "53" || Self.passing.contains(sqlState)
  }

  private static let passing: Set<SQLState> = [
    .queryCanceled, .readOnlySQLTransaction, .lockNotAvailable, .deadlockDetected,
  ]

  /// The same error, reported as part of a larger action.
  package func during(_ larger: String) -> PostgresError {
    var error = self
    error.action = "\(larger): \(action)"
    return error
  }
}

extension PostgresError {
  /// Reads the error fields of a result (manual, section 34.3.1 `PQresultErrorField`).
  init(result: OpaquePointer, action: String) {
    func field(_ code: Int32) -> String? {
      PQresultErrorField(result, code).map { String(cString: $0) }
    }
    let state = field(PostgresError.Field.sqlState).map(SQLState.init(rawValue:))
    // The details of these classes quote the row: names may be shown, values may not.
    let isQuiet = state?.mayQuoteValues ?? false
    let message =
      field(PostgresError.Field.primaryMessage)
      ?? String(cString: PQresultErrorMessage(result)).trimmedLine
    self.init(
      code: .server, action: action, message: state?.withoutValues(message) ?? message,
      sqlState: state,
      detail: isQuiet ? nil : field(PostgresError.Field.detail),
      hint: field(PostgresError.Field.hint),
      objects: [
        ("schema", PostgresError.Field.schema), ("table", PostgresError.Field.table),
        ("column", PostgresError.Field.column), ("constraint", PostgresError.Field.constraint),
      ].compactMap { name, code in field(code).map { "\(name) \($0)" } })
    if let state, state.errorClass == "08" || state.rawValue.hasPrefix("57P") { code = .connection }
  }

  init(connection: OpaquePointer, code: Code, action: String) {
    self.init(
      code: code, action: action, message: String(cString: PQerrorMessage(connection)).trimmedLine)
  }

  /// For a connection attempt with verbose errors: no result holds the SQLSTATE of a refused login.
  init(connecting connection: OpaquePointer, isAnswered: Bool, action: String) {
    let (message, state) = Self.parse(verbose: String(cString: PQerrorMessage(connection)))
    self.init(code: .connection, action: action, message: message, sqlState: state)
    self.isAnswered = isAnswered
    if message.contains("private key file") {
      hint = "See that sslkey can be read, and that sslpassword is its passphrase, if it has one."
    }
  }

  /// Removes from a message of several lines the SQLSTATE after a severity (`FATAL:  28P01: …`), and the line
  /// that names a place in the server's source.
  static func parse(verbose text: String) -> (message: String, sqlState: SQLState?) {
    var state: SQLState?
    let lines = text.trimmedLine.split(separator: "\n", omittingEmptySubsequences: false)
    let plain = lines.filter { !$0.contains(#/^[^ ]+:  .*, [^ ]+:[0-9]+$/#) }.map { line -> String in
      guard let match = line.firstMatch(of: #/:  ([0-9A-Z]{5}): /#) else { return String(line) }
      state = SQLState(rawValue: String(match.output.1))
      return line[..<match.range.lowerBound] + ":  " + line[match.range.upperBound...]
    }
    return (plain.joined(separator: "\n").trimmedLine, state)
  }

  /// The `PG_DIAG_` characters, which Swift imports as macros without a type.
  private enum Field {
    static let sqlState = Int32(UInt8(ascii: "C"))
    static let primaryMessage = Int32(UInt8(ascii: "M"))
    static let detail = Int32(UInt8(ascii: "D"))
    static let hint = Int32(UInt8(ascii: "H"))
    static let schema = Int32(UInt8(ascii: "s"))
    static let table = Int32(UInt8(ascii: "t"))
    static let column = Int32(UInt8(ascii: "c"))
    static let constraint = Int32(UInt8(ascii: "n"))
  }
}

extension String {
  /// libpq ends its messages with a line break.
  var trimmedLine: String {
    var text = Substring(self)
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return String(text)
  }
}
