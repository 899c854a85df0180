/// A change of a table's definition that an end owes its users once it is open. It takes a lock that readers
/// and VACUUM may hold for hours, so nobody may have to wait for it.
struct LateChange: Sendable, Equatable {
  var table: RelationName
  /// What it does, in words.
  var action: String
  var statement: String

  init(_ table: RelationName, doing action: String, _ statement: String) {
    (self.table, self.action, self.statement) = (table, action, statement)
  }
}
