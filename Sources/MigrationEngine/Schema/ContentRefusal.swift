import LibPQ

extension PostgresError {
  /// The server does not take what it was given: values, definitions, what they name, or what users wrote. It
  /// may take it once something is mended. Not so when it is the server that is in trouble, or a lock.
  var isRefusalOfContent: Bool {
    guard code == .server, !isConnectionLoss, let sqlState else { return false }
    return Self.ofContent.contains(String(sqlState.errorClass))
  }

  /// The rows or what users wrote are at fault, not that something has been dropped or renamed.
  var isRefusalOfData: Bool {
    guard isRefusalOfContent, let sqlState else { return false }
    return ["22", "23", "38", "39", "44", "P0"].contains(String(sqlState.errorClass))
  }

  private static let ofContent: Set = [
    "0A", "21", "22", "23", "2B", "38", "39", "3B", "3F", "42", "44", "54", "55", "HV", "P0",
  ]

  /// It names what is not there.
  var isUnknownName: Bool {
    guard code == .server, let sqlState else { return false }
    return [.undefinedTable, .undefinedObject, .undefinedFunction, .invalidSchemaName].contains(sqlState)
  }

  /// Another session's lock is in the way.
  var isLockConflict: Bool { sqlState == .lockNotAvailable || sqlState == .deadlockDetected }

  /// What a person is to hear of it in the middle of a sentence.
  var words: String { message + (sqlState.map { " (SQLSTATE \($0))" } ?? "") }
}
