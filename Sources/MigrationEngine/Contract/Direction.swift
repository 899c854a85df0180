/// The direction of a stream or a cutover.
package enum Direction: String, Sendable, Codable {
  /// From the source to the target.
  case forward
  /// From the target to the source: reverse replication and rollback.
  case back

  /// What users call moving writes this way.
  var deed: String { self == .forward ? "cutover" : "rollback" }

  /// The end that changes come from.
  package var from: String { self == .forward ? "source" : "target" }
  /// The end that changes go to.
  package var to: String { self == .forward ? "target" : "source" }
}
