/// The prefixes of our own messages in the source's WAL (`pg_logical_emit_message`; manual, section 9.27.6).
package enum MessagePrefix {
  package static let heartbeat = "replicate.heartbeat"
  package static let fence = "replicate.fence"
}
