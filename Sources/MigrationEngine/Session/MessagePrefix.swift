/// The prefixes of our own messages in the source's WAL (`pg_logical_emit_message`; manual, section 9.27.6).
enum MessagePrefix {
  static let heartbeat = "replicate.heartbeat"
  static let fence = "replicate.fence"
  /// Written after the LSN of a snapshot: once it arrives, everything before that LSN has.
  static let snapshot = "replicate.snapshot"
  /// Nobody waits for it: where it lies is what was asked.
  static let position = "replicate.position"
}
