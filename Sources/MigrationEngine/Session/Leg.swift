import LibPQ

/// One direction of replication: the end that changes come from, and the end they go to. Code for both
/// cutover and rollback uses these two; source and target are what the user gave, and never change.
struct Leg: Sendable {
  /// An end, with the engine's session there and a way to open others.
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
