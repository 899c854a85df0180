import LogicalReplication

/// What may be confirmed to the source, as a pure state machine. The server discards WAL up to what is
/// confirmed, so that must never pass what is durable on the target (manual, section 55.4, Standby status
/// update).
///
/// The positions of a stream, all in the WAL of the end that changes come from:
///
/// | what it is, and who moves it                                 | what it decides                         |
/// |--------------------------------------------------------------|-----------------------------------------|
/// | *flushed*: the end of that WAL, by IDENTIFY_SYSTEM           | whether it can be the one that was      |
/// |                                                              | followed                                |
/// | *confirmed*: the slot sends nothing before it; moved by the  | whether the slot proves the history of  |
/// | source on our report, after a crash back to what its disk    | the source; where to begin; whether     |
/// | had                                                          | others have read from it                |
/// | *applied*: the end of the last transaction that is on the    | what is skipped when it is sent again   |
/// | target; moved by `Applier` in one commit with the data       |                                         |
/// | *anchor*: which transaction that was; the same commit        | where to begin, and what must come      |
/// |                                                              | first, where the slot proves nothing    |
/// | *start*: `StreamStart.position`; fixed for a run             | START_REPLICATION; whether transactions |
/// |                                                              | are streamed before they have committed |
/// | *snapshot* of a table: what committed before is in its copy; | which changes of a transaction apply,   |
/// | moved by whoever copies it                                   | at its commit, however it came          |
/// | *received*: the end of what has come in; every message       | nothing: the status tells it            |
/// | *confirmable*: nothing that this run's source has before it  | the lag; the end of `follow(until:)`;   |
/// | is missing on the target; moved by a commit and, while       | whether a bound is reached; what is to  |
/// | nothing is open, by empty transactions and keepalives        | be stored                               |
/// | *stored*: up to where the target has stored, in a commit     | what is confirmed; in later runs,       |
/// | that was flushed, that it may be confirmed; moved once a     | whether others have read from the slot  |
/// | second                                                       |                                         |
///
/// A cutover's drain needs none of them: it waits for the commit of the marker's transaction. A comparison of
/// both ends fixes a limit at the LSN of a slot's snapshot.
struct Feedback: Sendable, Equatable {
  private(set) var receivedLSN: LSN
  private(set) var appliedLSN: LSN
  private(set) var confirmableLSN: LSN
  private(set) var storedLSN: LSN

  /// - Parameter confirmedLSN: up to where it is known, and durable on the target, that nothing is missing.
  ///   Less than `appliedLSN` while the source has not proven that it has what is applied.
  init(appliedLSN: LSN, confirmedLSN: LSN) {
    receivedLSN = max(appliedLSN, confirmedLSN)
    self.appliedLSN = appliedLSN
    confirmableLSN = confirmedLSN
    storedLSN = confirmedLSN
  }

  mutating func received(upTo lsn: LSN) { receivedLSN = max(receivedLSN, lsn) }

  /// The target has committed a transaction with its position; neither need be durable yet.
  mutating func committed(upTo lsn: LSN) {
    appliedLSN = max(appliedLSN, lsn)
    confirmableLSN = max(confirmableLSN, appliedLSN)
  }

  /// Everything received before `lsn` is applied, and nothing is open.
  mutating func idle(upTo lsn: LSN) { confirmableLSN = max(confirmableLSN, lsn) }

  /// What must be stored on the target before it may be confirmed; nil when nothing is new.
  var toStore: LSN? { confirmableLSN > storedLSN ? confirmableLSN : nil }

  mutating func stored(_ lsn: LSN) { storedLSN = max(storedLSN, lsn) }

  /// The message to send now.
  func update(at clock: PostgresTime, replyRequested: Bool) -> StandbyStatusUpdate {
    StandbyStatusUpdate(
      writtenLSN: max(receivedLSN, storedLSN), flushedLSN: storedLSN, appliedLSN: storedLSN, clock: clock,
      replyRequested: replyRequested)
  }
}
