package import LibPQ

/// One direction of replication: the end that changes come from, and the one that they go to. What works for
/// a cutover and for a rollback speaks of these two; source and target are what people gave, and stay what
/// they are.
package struct Leg: Sendable {
  /// An end, with the engine's session there and how others are opened.
  package struct End: Sendable {
    package var connection: Connection
    package var address: ConnectionString

    package init(_ connection: Connection, _ address: ConnectionString) {
      self.connection = connection
      self.address = address
    }
  }

  package let direction: Direction
  package let from: End
  package let to: End

  package init(_ direction: Direction, from: End, to: End) {
    self.direction = direction
    self.from = from
    self.to = to
  }
}
