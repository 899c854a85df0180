import LibPQ

/// One direction of replication: the end that changes come from, and the one that they go to. What works for
/// a cutover and for a rollback speaks of these two; source and target are what people gave, and stay what
/// they are.
struct Leg: Sendable {
  /// An end, with the engine's session there and how others are opened.
  struct End: Sendable {
    var connection: Connection
    var address: ConnectionString

    init(_ connection: Connection, _ address: ConnectionString) {
      self.connection = connection
      self.address = address
    }
  }

  /// How sessions are opened at both ends.
  struct Addresses: Sendable {
    var direction = Direction.forward
    var from: ConnectionString
    var to: ConnectionString
  }

  let direction: Direction
  let from: End
  let to: End

  init(_ direction: Direction, from: End, to: End) {
    self.direction = direction
    self.from = from
    self.to = to
  }
}
