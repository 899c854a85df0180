import Foundation
import LibPQ
import LogicalReplication

/// Finds in the stream of a slot where a transaction committed: what functions tell of positions may be of
/// another range. Nothing is confirmed, so the slot sends all of it again.
struct CommitSearch: Sendable {
  /// The end that has the slot.
  let from: ConnectionString
  /// Its name.
  let end: String
  let slot: SlotName
  let publication: String

  private static let receivedBytes = 256 << 10
  /// The server ends a stream that is silent for `wal_sender_timeout`.
  private static let replyPause = Duration.seconds(1)

  /// - Parameter xid: as pgoutput numbers transactions; of one that pgoutput sends.
  /// - Returns: where its COMMIT record starts; nil when the slot has passed it.
  func commitLSN(of xid: UInt32) async throws -> LSN? {
    let replication = try await Session.openReplication(from, end: end)
    return try await closing(replication) {
      var options = PgOutputOptions(version: .one, publications: [publication])
      options.messages = try await replication.has(.decodedMessages)
      try await replication.startStream(from: slot, at: .zero, options)
      let last = try await writeLast()
      var replyAt = ContinuousClock.now
      while true {
        if .now >= replyAt {
          try await reply(on: replication)
          replyAt = .now + Self.replyPause
        }
        let received = try await replication.receiveMessages(
          limit: Self.receivedBytes, patience: .milliseconds(200), doing: "looking through slot \(slot)")
        for begin in try Self.begun(in: received) {
          if begin.xid == xid { return begin.finalLSN }
          if begin.xid == last { return nil }
        }
        if received.isEnded {
          throw PostgresError(
            code: .connection, action: "looking through slot \(slot)", message: "the \(end) ended the stream")
        }
        try Task.checkCancellation()
      }
    }
  }

  /// A transaction that comes after all that can be looked for.
  private func writeLast() async throws -> UInt32? {
    let action = "writing a message for slot \(slot)"
    let observer = try await Session.open(from, end: end, purpose: "slot")
    return try await closing(observer) {
      let rows = try await observer.query(
        """
        SELECT pg_catalog.txid_current() & 4294967295 AS xid,
          pg_catalog.pg_logical_emit_message(true, $1, '')
        """, [MessagePrefix.snapshot], doing: action, within: .seconds(15))
      return try rows.first?.integer("xid", as: UInt32.self)
    }
  }

  private func reply(on replication: Connection) async throws {
    let now = PostgresTime(unixMicroseconds: Int64(Date().timeIntervalSince1970 * 1_000_000))
    let update = Feedback(appliedLSN: .zero, confirmedLSN: .zero).update(at: now, replyRequested: false)
    try await replication.sendMessages([update.encoded], doing: "telling slot \(slot) that we are here")
  }

  /// Rows are not looked at.
  private static func begun(in received: CopyMessages) throws -> [BeginMessage] {
    var decoder = PgOutputDecoder(version: .one, streaming: .off)
    return try received.bytes.withUnsafeBytes { buffer in
      try received.messages.compactMap { range in
        guard case .xLogData(let data) = try ReplicationFrame(buffer, range), let kind = data.payload.first,
          buffer[kind] == UInt8(ascii: "B"), case .begin(let begin) = try decoder.decode(buffer, data.payload)
        else { return nil }
        return begin
      }
    }
  }
}

extension Connection {
  /// Starts the stream of a slot on a replication connection. The walsender of a killed engine may have taken
  /// the slot just now, and will notice: it is waited for.
  func startStream(from slot: SlotName, at position: LSN, _ options: PgOutputOptions) async throws {
    let command = ReplicationCommand.start(slot: slot, at: position, options: options)
    let deadline = ContinuousClock.now + .seconds(30)
    while true {
      do {
        return try await startCopyBoth(command, doing: "starting the stream from slot \(slot)")
      } catch let error as PostgresError where error.sqlState == .objectInUse && .now < deadline {
        try await Task.sleep(for: .milliseconds(200))
      }
    }
  }
}
