import LibPQ

extension PostgresError {
  /// The server refuses what it was given: values, definitions, references or users' expressions. It may
  /// accept it once something is fixed. Does not include trouble of the server itself, or a lock.
  var isRefusalOfContent: Bool {
    guard code == .server, !isConnectionLoss, let sqlState else { return false }
    return Self.ofContent.contains(String(sqlState.errorClass))
  }

  /// The rows or users' expressions are at fault, not something dropped or renamed.
  var isRefusalOfData: Bool {
    guard isRefusalOfContent, let sqlState else { return false }
    return ["22", "23", "38", "39", "44", "P0"].contains(String(sqlState.errorClass))
  }

  private static let ofContent: Set = [
    "0A", "21", "22", "23", "2B", "38", "39", "3B", "3F", "42", "44", "54", "55", "HV", "P0",
  ]

  /// It refers to something that does not exist.
  var isUnknownName: Bool {
    guard code == .server, let sqlState else { return false }
    return [.undefinedTable, .undefinedObject, .undefinedFunction, .invalidSchemaName].contains(sqlState)
  }

  /// Another session's lock is in the way.
  var isLockConflict: Bool { sqlState == .lockNotAvailable || sqlState == .deadlockDetected }

  /// For people, in the middle of a sentence.
  var words: String { message + (sqlState.map { " (SQLSTATE \($0))" } ?? "") }
}
