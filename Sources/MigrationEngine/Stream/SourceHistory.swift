import LibPQ
import LogicalReplication

/// The end that changes come from has another history than the one that was followed. Trying again does not
/// help, in whatever form: it ends the engine.
struct OtherHistory: Error {
  let error: MigrationError

  init(_ why: String, _ direction: Direction) {
    error = MigrationError(
      .failed, doing: "going on with the stream from the \(direction.from)",
      reason: "the \(direction.from) was set back in time, or is another: \(why)",
      remedy: """
        Nothing of it was applied. If the \(direction.from) with these changes is still there, give it its \
        place back and start again. If they are lost: \(direction.startOver)
        """)
  }
}

/// What the end that changes come from says of itself, on the connection that will stream (manual, section
/// 55.4, IDENTIFY_SYSTEM).
struct SourceHistory {
  var timeline: UInt32
  /// How far its WAL is flushed: positions of the stream itself, which those that SQL functions tell are not
  /// everywhere.
  var flushedLSN: LSN

  static func read(from replication: Connection) async throws -> SourceHistory {
    let action = "asking the \(replication.end) for the end of its WAL"
    let rows = try await replication.query(
      ReplicationCommand.identifySystem, doing: action, within: .seconds(15))
    guard let row = rows.first, let flushed = LSN(try row.text("xlogpos")) else {
      throw PostgresError(code: .unexpectedResult, action: action, message: "the server told no position")
    }
    return SourceHistory(timeline: try row.integer("timeline", as: UInt32.self), flushedLSN: flushed)
  }

  /// - Parameter lsn: up to there the other end has what this one had.
  /// - Throws: `OtherHistory` when its WAL does not reach so far.
  func verify(reaches lsn: LSN, _ direction: Direction) throws {
    guard flushedLSN < lsn else { return }
    throw OtherHistory(
      "its WAL ends at \(flushedLSN), and the \(direction.to) has what it had up to \(lsn)", direction)
  }
}
