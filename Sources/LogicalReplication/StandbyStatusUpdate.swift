/// The client's report to a walsender of how far it has got. The server discards WAL up to `flushedLSN`, so
/// that must never be past what is durable on the target (PostgreSQL manual, "Streaming Replication
/// Protocol", Standby status update).
package struct StandbyStatusUpdate: Hashable, Sendable {
  let writtenLSN: LSN
  /// What is durable on the target: becomes `confirmed_flush_lsn` of the slot.
  package let flushedLSN: LSN
  /// What is applied: `replay_lsn` of `pg_stat_replication`.
  package let appliedLSN: LSN
  let clock: PostgresTime
  let replyRequested: Bool

  /// - Parameters:
  ///   - writtenLSN: up to where WAL was received.
  ///   - clock: the current time here.
  ///   - replyRequested: the server should answer at once.
  package init(
    writtenLSN: LSN, flushedLSN: LSN, appliedLSN: LSN, clock: PostgresTime, replyRequested: Bool = false
  ) {
    self.writtenLSN = writtenLSN
    self.flushedLSN = flushedLSN
    self.appliedLSN = appliedLSN
    self.clock = clock
    self.replyRequested = replyRequested
  }

  /// The same without flushed and applied positions. A server never treats a client that reports no flushed
  /// position as a synchronous standby, whatever its `synchronous_standby_names`; it keeps what was confirmed
  /// before.
  package var withoutConfirmation: StandbyStatusUpdate {
    StandbyStatusUpdate(
      writtenLSN: writtenLSN, flushedLSN: .zero, appliedLSN: .zero, clock: clock,
      replyRequested: replyRequested)
  }

  /// The payload of the CopyData message: 34 bytes.
  package var encoded: [UInt8] {
    var bytes: [UInt8] = [UInt8(ascii: "r")]
    bytes.reserveCapacity(34)
    for lsn in [writtenLSN, flushedLSN, appliedLSN] {
      withUnsafeBytes(of: lsn.rawValue.bigEndian) { bytes.append(contentsOf: $0) }
    }
    withUnsafeBytes(of: clock.microseconds.bigEndian) { bytes.append(contentsOf: $0) }
    bytes.append(replyRequested ? 1 : 0)
    return bytes
  }
}
