import LibPQ
import LogicalReplication
import Synchronization

/// Messages of ours in the WAL of a server whose pgoutput sends none: before PostgreSQL 14.
///
/// Such a server sends the transaction that wrote one all the same, with nothing in it (those from 15 on
/// leave out what is empty). So a message is known by the number of its transaction, which is noted here
/// before it commits, and by where it lies. Nothing is published for it: a table of ours would come to each
/// subscriber of a publication FOR ALL TABLES, and stop it.
final class SentMessages: Sendable {
  struct Message: Sendable {
    var prefix: String
    var content: String
    /// Behind its record; its transaction commits beyond it.
    var lsn: LSN
  }

  /// By transactions as BEGIN names them: 32 bits.
  private let messages = Mutex<[UInt32: Message]>([:])
  /// A stream that is far behind meets the oldest first, and needs the newest of the heartbeats least.
  private static let limit = 10_000

  func note(_ message: Message, of xid: UInt32) {
    messages.withLock { messages in
      if messages.count >= Self.limit, let oldest = messages.min(by: { $0.value.lsn < $1.value.lsn }) {
        messages[oldest.key] = nil
      }
      messages[xid] = message
    }
  }

  /// - Parameter lsn: where the transaction committed.
  func message(of xid: UInt32, committedAt lsn: LSN) -> Message? {
    messages.withLock { messages in
      guard let message = messages[xid], message.lsn <= lsn else { return nil }
      return message
    }
  }

  /// Of transactions that were applied.
  func forget(before lsn: LSN) {
    messages.withLock { messages in
      guard !messages.isEmpty else { return }
      messages = messages.filter { $0.value.lsn >= lsn }
    }
  }
}

extension Connection {
  /// Writes a message of ours into the WAL, in a transaction of its own (manual, section 9.27.6
  /// `pg_logical_emit_message`).
  /// - Parameter sent: of the stream that is to see it.
  /// - Returns: the LSN behind it.
  @discardableResult
  func emit(
    _ prefix: String, _ content: String, noting sent: SentMessages, doing action: String,
    within limit: Duration
  ) async throws -> String {
    guard try has(.decodedMessages) else {
      return try await emitNumbered(prefix, content, noting: sent, doing: action, within: limit)
    }
    let rows = try await query(
      "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2) AS lsn", [prefix, content], doing: action,
      within: limit)
    return try rows.first?.text("lsn") ?? ""
  }

  private func emitNumbered(
    _ prefix: String, _ content: String, noting sent: SentMessages, doing action: String,
    within limit: Duration
  ) async throws -> String {
    try await query("BEGIN", doing: action, within: limit)
    do {
      let rows = try await query(
        """
        SELECT pg_catalog.txid_current() & 4294967295 AS xid,
          pg_catalog.pg_logical_emit_message(true, $1, $2) AS lsn
        """, [prefix, content], doing: action, within: limit)
      guard let row = rows.first, let lsn = LSN(try row.text("lsn")) else {
        throw PostgresError(code: .unexpectedResult, action: action, message: "the server gave no position")
      }
      sent.note(
        SentMessages.Message(prefix: prefix, content: content, lsn: lsn),
        of: try row.integer("xid", as: UInt32.self))
      try await query("COMMIT", doing: action, within: limit)
      return lsn.description
    } catch {
      rollback()
      throw error
    }
  }
}
