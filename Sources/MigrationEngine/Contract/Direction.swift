/// Which way a stream or a cutover leads.
package enum Direction: String, Sendable, Codable {
  /// From the source to the target.
  case forward
  /// From the target to the source: the way back.
  case back

  /// What people call the move of writes this way.
  var deed: String { self == .forward ? "cutover" : "rollback" }

  /// What the end is called that changes come from.
  package var from: String { self == .forward ? "source" : "target" }
  /// What the end is called that they go to.
  package var to: String { self == .forward ? "target" : "source" }
}
