/// A five-character error code of the server (manual, appendix A "PostgreSQL Error Codes").
package struct SQLState: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  package let rawValue: String

  package init(rawValue: String) { self.rawValue = rawValue }

  package var description: String { rawValue }

  /// The first two characters: the class of the error.
  package var errorClass: String { String(rawValue.prefix(2)) }

  package static let divisionByZero = SQLState(rawValue: "22012")
  package static let readOnlySQLTransaction = SQLState(rawValue: "25006")
  package static let invalidPassword = SQLState(rawValue: "28P01")
  package static let invalidAuthorization = SQLState(rawValue: "28000")
  package static let invalidCatalogName = SQLState(rawValue: "3D000")
  package static let undefinedTable = SQLState(rawValue: "42P01")
  package static let undefinedColumn = SQLState(rawValue: "42703")
  package static let wrongObjectType = SQLState(rawValue: "42809")
  package static let undefinedObject = SQLState(rawValue: "42704")
  package static let undefinedFunction = SQLState(rawValue: "42883")
  package static let invalidSchemaName = SQLState(rawValue: "3F000")
  package static let duplicateObject = SQLState(rawValue: "42710")
  package static let insufficientPrivilege = SQLState(rawValue: "42501")
  package static let objectInUse = SQLState(rawValue: "55006")
  package static let lockNotAvailable = SQLState(rawValue: "55P03")
  package static let queryCanceled = SQLState(rawValue: "57014")
  package static let invalidParameterValue = SQLState(rawValue: "22023")
  package static let configurationLimitExceeded = SQLState(rawValue: "53400")
  package static let diskFull = SQLState(rawValue: "53100")
  package static let outOfMemory = SQLState(rawValue: "53200")
  package static let tooManyConnections = SQLState(rawValue: "53300")
  package static let deadlockDetected = SQLState(rawValue: "40P01")

  /// Classes whose messages may quote a value of the user's: data exceptions and integrity violations.
  package var mayQuoteValues: Bool { errorClass == "22" || errorClass == "23" }

  /// A message of this error without the values it may quote: `value "abc" is out of range` and
  /// `invalid input syntax for type integer: "abc"` do, in the quotes of the server's language. What an
  /// integrity violation quotes before a colon are names.
  func withoutValues(_ message: String) -> String {
    guard mayQuoteValues else { return message }
    // By scalars: a quote that a value's combining mark follows is no `Character` of its own.
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
