/// A name that PostgreSQL accepts for a replication slot: lower-case letters, digits and underscores,
/// at most 63 bytes (manual section "Querying and Manipulating Replication Slots").
package struct SlotName: Hashable, Sendable, LosslessStringConvertible {
  package let description: String

  /// Nil if the server would refuse the name.
  package init?(_ description: String) {
    let isValid = description.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
        true
      default: false
      }
    }
    guard isValid, (1...63).contains(description.utf8.count) else { return nil }
    self.description = description
  }
}

/// The options for pgoutput. Unset options are not sent, because a server that does not know one refuses the
/// command (manual section "Logical Streaming Replication Protocol").
package struct PgOutputOptions: Hashable, Sendable {
  /// The server refuses a version that it does not know, or no longer knows.
  package var version: PgOutputVersion
  /// At least one, without quotes; the server checks whether they exist only when it decodes a change.
  package var publications: [String]
  /// Send what `pg_logical_emit_message` wrote; PostgreSQL 14.
  package var messages = false
  /// Send values in binary where the type can; PostgreSQL 14.
  package var binary = false
  /// PostgreSQL 14, `parallel` 16.
  package var streaming = PgOutputStreaming.off
  /// Send only changes that did not come from another server; PostgreSQL 16.
  var onlyLocalOrigin = false

  /// - Parameter publications: names without quotes.
  package init(version: PgOutputVersion, publications: [String]) {
    self.version = version
    self.publications = publications
  }

  var list: String {
    let names = publications.map(quotedIdentifier).joined(separator: ",")
    var options = ["proto_version '\(version.rawValue)'", "publication_names \(walsenderLiteral(names))"]
    if messages { options.append("messages 'true'") }
    if binary { options.append("binary 'true'") }
    if streaming != .off { options.append("streaming '\(streaming.rawValue)'") }
    if onlyLocalOrigin { options.append("origin 'none'") }
    return options.joined(separator: ", ")
  }
}

/// The commands of a walsender connection that has `replication=database`
/// (manual section "Streaming Replication Protocol").
package enum ReplicationCommand {
  /// Gives `systemid`, `timeline`, `xlogpos` and `dbname` in one row.
  package static let identifySystem = "IDENTIFY_SYSTEM"

  /// Creates a slot and exports the snapshot that sees exactly what the slot will not send. This syntax is
  /// older than the parenthesised one, and every version from 10 to 18 accepts it. A temporary slot ends with
  /// its session.
  package static func createSlot(_ name: SlotName, temporary: Bool = false) -> String {
    let kind = temporary ? "TEMPORARY LOGICAL" : "LOGICAL"
    return "CREATE_REPLICATION_SLOT \(quotedIdentifier(name.description)) \(kind) pgoutput EXPORT_SNAPSHOT"
  }

  /// Streams from `startLSN`, or from where the slot was last confirmed if that is later.
  package static func start(slot: SlotName, at startLSN: LSN, options: PgOutputOptions) -> String {
    "START_REPLICATION SLOT \(quotedIdentifier(slot.description)) LOGICAL \(startLSN) (\(options.list))"
  }

  /// Removes a slot; with `wait` it waits until the slot is no longer in use instead of failing.
  static func dropSlot(_ name: SlotName, wait: Bool = false) -> String {
    "DROP_REPLICATION_SLOT \(quotedIdentifier(name.description))\(wait ? " WAIT" : "")"
  }
}
