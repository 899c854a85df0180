import LogicalReplication

extension ReplicaIdentity {
  /// From `pg_class.relreplident`.
  init?(catalog text: String) {
    guard let byte = text.utf8.first, text.utf8.count == 1 else { return nil }
    self.init(rawValue: byte)
  }

  /// As in ALTER TABLE … REPLICA IDENTITY; an index also needs its name.
  var clause: String {
    switch self {
    case .primaryKey: "DEFAULT"
    case .nothing: "NOTHING"
    case .full: "FULL"
    case .index: "USING INDEX"
    }
  }
}
