/// A change of a table's definition that remains to be made once an end is open. It needs a lock that readers
/// and VACUUM may block for hours, so nobody may have to wait for it.
struct LateChange: Sendable, Equatable {
  var table: RelationName
  /// What it does, in words.
  var action: String
  var statement: String

  init(_ table: RelationName, doing action: String, _ statement: String) {
    (self.table, self.action, self.statement) = (table, action, statement)
  }
}
