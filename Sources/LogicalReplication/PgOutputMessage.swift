/// One message of the output plugin `pgoutput`, protocol versions 1 to 4 (PostgreSQL manual, "Logical
/// Replication Message Formats"). Messages of two-phase commit are missing: they are sent only on request.
///
/// Every `xid` that is optional is present exactly in messages between Stream Start and Stream Stop, where it
/// names the (sub)transaction that made the change.
package enum PgOutputMessage: Hashable, Sendable {
  /// `B`: a transaction begins; it has committed.
  case begin(BeginMessage)
  /// `M`: a message written to the WAL by `pg_logical_emit_message`.
  case logicalMessage(LogicalMessage)
  /// `C`: the end of what `begin` began.
  case commit(CommitMessage)
  /// `O`: where the transaction originated.
  case origin(OriginMessage)
  /// `R`: a relation's definition, before its first change.
  case relation(RelationMessage)
  /// `Y`: a type's name, before the relation that has a column of it.
  case type(TypeMessage)
  /// `I`: an inserted row.
  case insert(InsertMessage)
  /// `U`: an updated row.
  case update(UpdateMessage)
  /// `D`: a deleted row.
  case delete(DeleteMessage)
  /// `T`: several relations at once.
  case truncate(TruncateMessage)
  /// `S`: changes of an open transaction follow.
  case streamStart(StreamStartMessage)
  /// `E`: the end of what `streamStart` began.
  case streamStop
  /// `c`: a streamed transaction has committed.
  case streamCommit(StreamCommitMessage)
  /// `A`: a streamed transaction, or a subtransaction of it, was rolled back.
  case streamAbort(StreamAbortMessage)
}

/// The first byte of a message.
enum PgOutputTag: UInt8, CaseIterable {
  case begin = 0x42  // B
  case logicalMessage = 0x4D  // M
  case commit = 0x43  // C
  case origin = 0x4F  // O
  case relation = 0x52  // R
  case type = 0x59  // Y
  case insert = 0x49  // I
  case update = 0x55  // U
  case delete = 0x44  // D
  case truncate = 0x54  // T
  case streamStart = 0x53  // S
  case streamStop = 0x45  // E
  case streamCommit = 0x63  // c
  case streamAbort = 0x41  // A
}
