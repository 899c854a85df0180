import LibPQ
import Synchronization

/// Messages of ours in the WAL of a server whose pgoutput sends none: before PostgreSQL 14.
///
/// Such a server sends the transaction that wrote one all the same, with nothing in it (those from 15 on
/// leave out what is empty). So a message is known by the number of its transaction, which is noted here
/// before it commits. No other transaction that the stream has still to bring can have that number: the slot
/// keeps the server from using one again (manual, section 25.1.5). The positions that functions return say
/// nothing of this: on Amazon Aurora they are not those of the stream.
///
/// Nothing is published for it: a table of ours would come to each subscriber of a publication FOR ALL
/// TABLES, and stop it.
final class SentMessages: Sendable {
  struct Message: Sendable {
    var prefix: String
    var content: String
  }

  private struct State {
    /// By transactions as BEGIN names them: 32 bits.
    var messages: [UInt32: (place: Int, message: Message)] = [:]
    var next = 0
  }

  private let state = Mutex(State())
  /// A stream that is hours behind needs the oldest heartbeats least.
  private static let limit = 20_000

  func note(_ message: Message, of xid: UInt32) {
    state.withLock { state in
      state.messages[xid] = (state.next, message)
      state.next += 1
      guard state.messages.count > Self.limit else { return }
      let oldest = state.next - Self.limit / 2
      state.messages = state.messages.filter { $0.value.place >= oldest }
    }
  }

  func message(of xid: UInt32) -> Message? { state.withLock { $0.messages[xid]?.message } }
}

extension Connection {
  /// Writes a message of ours into the WAL, in a transaction of its own (manual, section 9.27.6
  /// `pg_logical_emit_message`).
  /// - Parameters:
  ///   - isTransactional: otherwise it comes as soon as it is read from the WAL, and nobody waits for a disk
  ///     or a standby. Where pgoutput sends no messages it is one all the same.
  ///   - sent: of the stream that is to see it.
  /// - Returns: the LSN behind it, as the function tells it: to be compared with others of functions only.
  @discardableResult
  func emit(
    _ prefix: String, _ content: String, isTransactional: Bool = true, noting sent: SentMessages,
    doing action: String, within limit: Duration
  ) async throws -> String {
    guard try has(.decodedMessages) else {
      return try await emitNumbered(prefix, content, noting: sent, doing: action, within: limit)
    }
    let rows = try await query(
      "SELECT pg_catalog.pg_logical_emit_message(\(isTransactional), $1, $2) AS lsn", [prefix, content],
      doing: action, within: limit)
    return try rows.first?.text("lsn") ?? ""
  }

  private func emitNumbered(
    _ prefix: String, _ content: String, noting sent: SentMessages, doing action: String,
    within limit: Duration
  ) async throws -> String {
    try await transaction(doing: action, within: limit) { connection in
      let rows = try await connection.query(
        """
        SELECT pg_catalog.txid_current() & 4294967295 AS xid,
          pg_catalog.pg_logical_emit_message(true, $1, $2) AS lsn
        """, [prefix, content], doing: action, within: limit)
      guard let row = rows.first else {
        throw PostgresError(code: .unexpectedResult, action: action, message: "the server gave no number")
      }
      sent.note(
        SentMessages.Message(prefix: prefix, content: content), of: try row.integer("xid", as: UInt32.self))
      return try row.text("lsn")
    }
  }
}
