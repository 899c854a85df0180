/// The prefixes of our own messages in the source's WAL (`pg_logical_emit_message`; manual, section 9.27.6).
enum MessagePrefix {
  static let heartbeat = "replicate.heartbeat"
  static let fence = "replicate.fence"
  /// Written after the LSN of a snapshot: once it arrives, everything before that LSN has.
  static let snapshot = "replicate.snapshot"
  /// Written before the catalogs are read: what commits before it, these know.
  static let catalog = "replicate.catalog"
  /// In the transaction that notes that the target opens.
  static let opening = "replicate.opening"

  /// Those that mean something outside of a transaction, too.
  static let meantAlone: Set = [heartbeat, catalog]
}
