/// A five-character error code of the server (manual, appendix A "PostgreSQL Error Codes").
package struct SQLState: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  package let rawValue: String

  package init(rawValue: String) { self.rawValue = rawValue }

  package var description: String { rawValue }

  /// The first two characters: the class of the error.
  package var errorClass: String { String(rawValue.prefix(2)) }

  /// Also raised on purpose, where a statement must fail without any effect.
  package static let divisionByZero = SQLState(rawValue: "22012")
  /// A write in a read-only transaction; our fences raise it as well.
  package static let readOnlySQLTransaction = SQLState(rawValue: "25006")
  /// The password is wrong.
  package static let invalidPassword = SQLState(rawValue: "28P01")
  /// `pg_hba.conf` or the role refuses the session, whatever the password.
  package static let invalidAuthorization = SQLState(rawValue: "28000")
  static let invalidCatalogName = SQLState(rawValue: "3D000")
  /// No such table or view; it may have been dropped in between.
  package static let undefinedTable = SQLState(rawValue: "42P01")
  /// No such column, or no right to know of it.
  package static let undefinedColumn = SQLState(rawValue: "42703")
  /// The object exists, but is of another kind than the statement needs.
  package static let wrongObjectType = SQLState(rawValue: "42809")
  /// No such slot, publication, role, type or other object without a code of its own.
  package static let undefinedObject = SQLState(rawValue: "42704")
  /// No such function for these argument types; a version that lacks it says the same.
  package static let undefinedFunction = SQLState(rawValue: "42883")
  /// No such schema.
  package static let invalidSchemaName = SQLState(rawValue: "3F000")
  static let duplicateObject = SQLState(rawValue: "42710")
  /// The session's role may not do that.
  package static let insufficientPrivilege = SQLState(rawValue: "42501")
  /// A slot that another session streams from, or a database with sessions.
  package static let objectInUse = SQLState(rawValue: "55006")
  /// `lock_timeout` ran out, or `NOWAIT` found the lock taken.
  package static let lockNotAvailable = SQLState(rawValue: "55P03")
  /// A statement was cancelled: by us, by an administrator, or by `statement_timeout`.
  package static let queryCanceled = SQLState(rawValue: "57014")
  /// A value that the function or setting refuses.
  package static let invalidParameterValue = SQLState(rawValue: "22023")
  static let configurationLimitExceeded = SQLState(rawValue: "53400")
  /// Disk full.
  package static let diskFull = SQLState(rawValue: "53100")
  /// Out of memory.
  package static let outOfMemory = SQLState(rawValue: "53200")
  /// All of `max_connections`, or of a role's or a database's limit, are taken.
  package static let tooManyConnections = SQLState(rawValue: "53300")
  /// Deadlock: the server ended this transaction, so that another could continue.
  package static let deadlockDetected = SQLState(rawValue: "40P01")

  /// Classes whose messages may quote a value of the user's: data exceptions and integrity violations.
  var mayQuoteValues: Bool { errorClass == "22" || errorClass == "23" }

  /// A message of this error without the values it may quote: `value "abc" is out of range` and
  /// `invalid input syntax for type integer: "abc"` do, in the quotes of the server's language. What an
  /// integrity violation quotes before a colon are names.
  func withoutValues(_ message: String) -> String {
    guard mayQuoteValues else { return message }
    // By scalars: a quote followed by a combining mark is not a separate `Character`.
    var text = message.unicodeScalars[...]
    if errorClass == "22", let first = text.firstIndex(where: Self.quotes.contains),
      let last = text.lastIndex(where: Self.quotes.contains)
    {
      text = text[..<first] + "…".unicodeScalars + text[text.index(after: last)...]
    }
    return String(String.UnicodeScalarView(text.prefix { $0 != ":" && $0 != "：" }))
  }

  private static let quotes: Set<Unicode.Scalar> = [
    "\"", "'", "`", "«", "»", "‹", "›", "“", "”", "„", "‟", "‘", "’", "‚", "‛", "「", "」", "『", "』",
  ]
}
