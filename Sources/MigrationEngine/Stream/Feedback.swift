package import LogicalReplication

/// What the source may be told, as a pure state machine. The server discards WAL up to what is confirmed, so
/// that must never pass what is durable on the target (manual, section 55.4, Standby status update).
package struct Feedback: Sendable, Equatable {
  /// The end of what has come in.
  package private(set) var receivedLSN: LSN
  /// The end of the last transaction that was committed on the target.
  package private(set) var appliedLSN: LSN
  /// Up to here there is nothing that is not on the target.
  package private(set) var confirmableLSN: LSN
  /// Up to here the target has stored, with a commit that was flushed, that it may be confirmed. Everything
  /// that was committed before is flushed with it.
  package private(set) var storedLSN: LSN

  package init(appliedLSN: LSN, confirmedLSN: LSN) {
    receivedLSN = appliedLSN
    self.appliedLSN = appliedLSN
    confirmableLSN = max(appliedLSN, confirmedLSN)
    storedLSN = confirmableLSN
  }

  package mutating func received(upTo lsn: LSN) { receivedLSN = max(receivedLSN, lsn) }

  /// The target has committed a transaction with its position; neither need be durable yet.
  package mutating func committed(upTo lsn: LSN) {
    appliedLSN = max(appliedLSN, lsn)
    confirmableLSN = max(confirmableLSN, appliedLSN)
  }

  /// All that was received before `lsn` is applied, and nothing is open.
  package mutating func idle(upTo lsn: LSN) { confirmableLSN = max(confirmableLSN, lsn) }

  /// What must be stored on the target before it may be confirmed; nil when nothing is new.
  package var toStore: LSN? { confirmableLSN > storedLSN ? confirmableLSN : nil }

  package mutating func stored(_ lsn: LSN) { storedLSN = max(storedLSN, lsn) }

  /// The message to send now.
  package func update(at clock: PostgresTime, replyRequested: Bool) -> StandbyStatusUpdate {
    StandbyStatusUpdate(
      writtenLSN: max(receivedLSN, storedLSN), flushedLSN: storedLSN, appliedLSN: storedLSN, clock: clock,
      replyRequested: replyRequested)
  }
}
