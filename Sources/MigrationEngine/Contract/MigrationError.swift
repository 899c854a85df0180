/// Why a command could not do what it was asked. The command's exit code follows from `kind`.
package struct MigrationError: Error, Sendable, CustomStringConvertible {
  /// What the error means to a script.
  package enum Kind: Sendable, Equatable {
    /// Something went wrong: exit 1.
    case failed
    /// Preflight forbids it: exit 3.
    case blocked
    /// The cutover was aborted and the source is writable again: exit 5.
    case cutoverAborted
    /// Another engine holds the migration: exit 6.
    case anotherEngine
    /// What was asked makes no sense now: exit 64.
    case usage
  }

  /// Decides the exit code.
  package var kind: Kind
  /// What was being done to which object.
  package var action: String
  /// What stood in the way; never a value of a row, never a password.
  package var reason: String
  /// What to do next.
  package var remedy: String?
  /// The same may succeed later: a server was in a temporary state.
  var mayPass = false

  /// - Parameter action: what was being done to which object, as a phrase.
  package init(_ kind: Kind, doing action: String, reason: String, remedy: String? = nil) {
    self.kind = kind
    self.action = action
    self.reason = reason
    self.remedy = remedy
  }

  package var description: String {
    var text = "\(action): \(reason)"
    if let remedy { text += "\n  what to do: \(remedy)" }
    return text
  }
}
