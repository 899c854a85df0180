import LibPQ
import LogicalReplication

/// The end that changes come from has another history than the one followed so far. Retrying in any form does
/// not help: it ends the engine.
struct OtherHistory: Error {
  let error: MigrationError

  init(_ why: String, _ direction: Direction) {
    error = MigrationError(
      .failed, doing: "continuing the stream from the \(direction.from)",
      reason: "the \(direction.from) was restored to an earlier time, or is another server: \(why)",
      remedy: """
        Nothing of it was applied. If the \(direction.from) with these changes still exists, put it \
        back in place and start again. If they are lost: \(direction.startOver)
        """)
  }
}

/// What the end that changes come from reports about itself, on the connection that will stream (manual,
/// section 55.4, IDENTIFY_SYSTEM).
struct SourceHistory {
  var timeline: UInt32
  /// How far its WAL is flushed, in the stream's own positions: those of SQL functions differ on some
  /// servers.
  var flushedLSN: LSN

  static func read(from replication: Connection) async throws -> SourceHistory {
    let action = "asking the \(replication.end) for the end of its WAL"
    let rows = try await replication.query(
      ReplicationCommand.identifySystem, doing: action, within: .seconds(15))
    guard let row = rows.first, let flushed = LSN(try row.text("xlogpos")) else {
      throw PostgresError(code: .unexpectedResult, action: action, message: "the server reported no position")
    }
    return SourceHistory(timeline: try row.integer("timeline", as: UInt32.self), flushedLSN: flushed)
  }

  /// - Parameter lsn: up to here the other end has what this one had.
  /// - Throws: `OtherHistory` when its WAL does not reach so far.
  func verify(reaches lsn: LSN, _ direction: Direction) throws {
    guard flushedLSN < lsn else { return }
    throw OtherHistory(
      "its WAL ends at \(flushedLSN), and the \(direction.to) has what it had up to \(lsn)", direction)
  }
}
