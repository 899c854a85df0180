/// The prefixes of our own messages in the source's WAL (`pg_logical_emit_message`; manual, section 9.27.6).
enum MessagePrefix {
  static let heartbeat = "replicate.heartbeat"
  static let fence = "replicate.fence"
  /// Behind the LSN of a snapshot: where it arrives, everything before that has.
  static let snapshot = "replicate.snapshot"
}
