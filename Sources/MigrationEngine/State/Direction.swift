/// Which way a stream or a cutover leads.
package enum Direction: String, Sendable, Codable {
  /// From the source to the target.
  case forward
  /// From the target to the source: the way back.
  case back

  /// What the end is called that changes come from.
  package var from: String { self == .forward ? "source" : "target" }
  /// What the end is called that they go to.
  package var to: String { self == .forward ? "target" : "source" }
}
