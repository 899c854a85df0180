/// One message of the output plugin `pgoutput`, protocol versions 1 to 4 (PostgreSQL manual, "Logical
/// Replication Message Formats"). Messages of two-phase commit are none: they come only to who asks for them.
///
/// Every `xid` that is optional is present exactly in messages between Stream Start and Stream Stop, where it
/// names the (sub)transaction that made the change.
package enum PgOutputMessage: Hashable, Sendable {
  case begin(BeginMessage)
  case logicalMessage(LogicalMessage)
  case commit(CommitMessage)
  case origin(OriginMessage)
  case relation(RelationMessage)
  case type(TypeMessage)
  case insert(InsertMessage)
  case update(UpdateMessage)
  case delete(DeleteMessage)
  case truncate(TruncateMessage)
  case streamStart(StreamStartMessage)
  case streamStop
  case streamCommit(StreamCommitMessage)
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
