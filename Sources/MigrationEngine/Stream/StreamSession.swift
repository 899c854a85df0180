import Foundation
import LibPQ
import Logging
import LogicalReplication

/// The stream has reached changes of a table created during the migration: it must join first.
struct NewTable: Error {
  var error: MigrationError
}

/// The stream has reached changes of a table whose definition neither end has any more: its rows must be
/// copied again.
struct OutdatedTable: Error {
  var sourceOID: UInt32
  var error: MigrationError
}

/// All table snapshots are passed: open transactions can be streamed from now on.
private struct SnapshotsPassed: Error {}

/// One run of the stream: START_REPLICATION until it is asked to stop, with tasks that wait for each other as
/// little as possible: one receives, one applies, one confirms, one keeps the source informed. Here `source`
/// is the end that changes come from and `target` the end they go to, in either direction.
struct StreamSession: Sendable {
  let leg: Leg.Addresses
  let slot: SlotName
  let publication: String
  /// Reads what both ends have now.
  let tables: @Sendable () async throws -> StreamTables
  let monitor: StreamMonitor
  let logger: Logger

  private var direction: Direction { leg.direction }

  /// How much is received at once; a larger row is received alone.
  private static let receivedBytes = 256 << 10

  /// Streams until the task is cancelled; whatever is not committed on the target by then will be sent again.
  /// Where a table's definition differs it stops, reports it, and continues once the ends match again; where
  /// binary rows fail, they are sent again as text.
  /// - Parameter end: return once everything before it is applied.
  /// - Throws: `NewTable` when it cannot continue before a table is created, `OutdatedTable` before one is
  ///   copied again.
  func follow(until end: LSN? = nil) async throws {
    var streamsFrom = LSN.zero
    var mayBeBinary = true
    while true {
      do {
        return try await runOnce(until: end, streamsFrom: streamsFrom, mayBeBinary: mayBeBinary)
      } catch let difference as DefinitionDifference where difference.isNewTable {
        throw NewTable(error: difference.error)
      } catch let difference as DefinitionDifference where difference.isOutdated {
        throw OutdatedTable(sourceOID: difference.message?.relationID ?? 0, error: difference.error)
      } catch let difference as DefinitionDifference {
        try await waitForTheEnd(of: difference)
        mayBeBinary = true
      } catch let refusal as StreamingRefusal {
        logger.info(
          "applying transactions only once they have committed", metadata: ["because": "\(refusal.reason)"])
        streamsFrom = refusal.until ?? LSN(rawValue: .max)
      } catch is SnapshotsPassed {
        logger.debug("all snapshots are passed: streaming open transactions from now on")
      } catch let refusal as BinaryRefusal {
        logger.info("streaming again in text", metadata: ["because": "\(refusal.reason)"])
        mayBeBinary = false
      } catch let error as PostgresError where error.isAnswered {
        try await waitForLogin(error)
      } catch let other as OtherHistory {
        throw other.error
      } catch is PositionMoved {
        logger.info("streaming again from the position of the \(direction.to)")
      } catch let error where Applier.isRefusal(error) {
        // The change may be refused because it is already applied, or because the table has changed.
        var isOutdated = try await hasMoved()
        if !isOutdated { isOutdated = try await tablesHaveChanged() }
        guard isOutdated else {
          guard let unknown = error as? PostgresError, unknown.isUnknownName else { throw error }
          // A row may refer to something that comes with another table or is built later, such as an index as
          // regclass.
          let remedy = "Create it on the \(direction.to), and the stream continues by itself."
          if monitor.isStuck(at: "\(unknown). \(remedy)") {
            logger.warning("the stream waits", metadata: ["for": "\(unknown)"])
          }
          try await Task.sleep(for: Self.definitionPoll)
          continue
        }
        logger.info(
          "streaming again from the position of the \(direction.to)", metadata: ["because": "\(error)"])
      }
    }
  }

  /// How long until a refused login is retried.
  private static let loginPause = Duration.seconds(2)

  /// A run needs new sessions. Waits for an end that admits none but keeps the engine's existing ones.
  private func waitForLogin(_ error: PostgresError) async throws {
    if monitor.isKeptOut("the stream cannot restart; retrying: \(error)") {
      logger.warning("the stream waits for a login", metadata: ["why": "\(error)"])
    }
    try await Task.sleep(for: Self.loginPause)
  }

  /// Reports what must be done, until it is done.
  private func waitForTheEnd(of difference: DefinitionDifference) async throws {
    defer { monitor.waits(for: nil) }
    var reported: String?
    // The ends may have more now than the stream knew when it began.
    while let error = try await remains(difference) {
      if reported != error.description {
        logger.warning("the stream waits", metadata: ["for": "\(error)"])
        monitor.waits(for: error.description)
        reported = error.description
      }
      try await Task.sleep(for: Self.definitionPoll)
    }
    logger.info("the stream continues", metadata: ["after": "\(difference.error.action)"])
  }

  /// How often to check whether a table is now what it must be.
  private static let definitionPoll = Duration.seconds(1)

  private func remains(_ difference: DefinitionDifference) async throws -> MigrationError? {
    guard let message = difference.message else { return nil }
    do {
      var tables = try await tables()
      tables.direction = direction
      _ = try ChangePlanner.table(of: message, at: difference.lsn, in: tables)
      return nil
    } catch let difference as DefinitionDifference {
      return difference.isOutdated ? nil : difference.error
    }
  }

  /// Whether an abandoned session has committed after all.
  private func hasMoved() async throws -> Bool {
    let state = try await Session.open(leg.to, end: direction.to, purpose: "confirm")
    return try await closing(state) {
      try await progress(in: state).appliedLSN != monitor.feedback.appliedLSN
    }
  }

  /// Whether a table that got changes must be copied again first.
  private func tablesHaveChanged() async throws -> Bool {
    !monitor.tables.isSubset(of: try await tables().snapshots.keys)
  }

  private func progress(in state: Connection) async throws -> StoredProgress {
    guard let progress = try await StateStore(state).settledProgress() else {
      throw MigrationError(
        .failed, doing: "reading the stream's position on the \(direction.to)",
        reason: "replicate.progress has lost its row",
        remedy: "Somebody changed schema replicate of the \(direction.to). \(direction.startOver)")
    }
    return progress
  }

  /// - Parameter streamsFrom: transactions are sent before they have committed when the run begins at or
  ///   after it.
  private func runOnce(until end: LSN?, streamsFrom: LSN, mayBeBinary: Bool) async throws {
    let state = try await Session.open(leg.to, end: direction.to, purpose: "confirm")
    try await closing(state) {
      let (progress, start) = try await begin(state)
      monitor.resume(progress, from: start)
      var tables = try await tables()
      tables.direction = direction
      if !tables.settings.refused.isEmpty {
        let names = Set(tables.settings.refused.map(\.name)).sorted().joined(separator: ", ")
        logger.warning(
          "the \(direction.to) refuses settings of its users, and evaluates their checks without them",
          metadata: ["which": "\(names)"])
      }
      monitor.applies(to: Set(tables.snapshots.keys))
      monitor.isKeptOut(nil)
      let replication = try await Session.openReplication(leg.from, end: direction.from)
      try await closing(replication) { [tables] in
        let tables = try await asked(tables, of: replication, mayBeBinary: mayBeBinary)
        // Below the newest snapshot most would be refused at their ends.
        let streamsFrom =
          try await replication.has(.streamedTransactions)
          ? max(streamsFrom, tables.newestSnapshotLSN) : LSN(rawValue: .max)
        let isStreaming = start.position >= streamsFrom
        try await verify(replication, progress, tables, state)
        try await startReplication(replication, at: start.position, tables, isStreaming)
        let sessions = try await LaneSessions(
          target: leg.to, end: direction.to, settings: tables.settings, monitor: monitor)
        try await finally(sessions.close) {
          try await stream(replication, state: state) { inbox in
            var applier = Applier(
              sessions: sessions, tables: tables, from: start, isStreaming: isStreaming, monitor: monitor,
              logger: logger)
            while let piece = await inbox.take() {
              try await applier.apply(piece)
              if let end {
                if monitor.feedback.confirmableLSN >= end { return }
              } else if !isStreaming, applier.anchorLSN >= streamsFrom, !monitor.isAwaited {
                throw SnapshotsPassed()
              }
            }
            try Task.checkCancellation()
          }
        }
      }
    }
  }

  /// Where the run begins.
  private func begin(_ state: Connection) async throws -> (StoredProgress, StreamStart) {
    let claim = SlotCheck(slot: slot, direction: direction)
    let observer = try await Session.open(leg.from, end: direction.from, purpose: "slot")
    let confirmed = try await closing(observer) { try await claim.take(on: observer) }
    let progress = try await progress(in: state)
    try claim.verify(confirmed, progress)
    return (progress, StreamStart(progress, slot: confirmed))
  }

  /// Checks whether the source can be the one followed so far, before anything is asked of it.
  private func verify(
    _ replication: Connection, _ progress: StoredProgress, _ tables: StreamTables, _ state: Connection
  ) async throws {
    let history = try await SourceHistory.read(from: replication)
    // Reverse replication does not start with a stream position, nor are its snapshots such positions.
    let followed = progress.anchor == nil ? .zero : progress.appliedLSN
    try history.verify(
      reaches: direction == .forward ? max(followed, tables.newestSnapshotLSN) : followed, direction)
    guard history.timeline != progress.timeline else { return }
    try await StateStore(state).store(timeline: history.timeline)
    guard let before = progress.timeline else { return }
    let what = "the \(direction.from) has switched from timeline \(before) to timeline \(history.timeline)"
    logger.notice("\(what)")
    // The trail of events is on the target, in either direction of the stream.
    guard direction == .back else { return try await StateStore(state).note(what) }
    let trail = try await Session.open(leg.from, end: direction.from, purpose: "slot")
    try await closing(trail) { try await StateStore(trail).note(what) }
  }

  /// With what is asked of the source's server: as much as it can and the tables allow.
  private func asked(
    _ tables: StreamTables, of replication: Connection, mayBeBinary: Bool
  ) async throws -> StreamTables {
    var tables = tables
    tables.version = try await replication.has(.streamedTransactions) ? .two : .one
    let canBeBinary = try await replication.has(.binaryStream)
    let (form, obstacle) = mayBeBinary && canBeBinary ? StreamForm.best(for: tables) : (.text, nil)
    logger.debug("streaming in \(form.format)", metadata: obstacle.map { ["because": "\($0)"] } ?? [:])
    tables.form = form
    return tables
  }

  private func startReplication(
    _ connection: Connection, at position: LSN, _ tables: StreamTables, _ isStreaming: Bool
  ) async throws {
    var options = PgOutputOptions(version: tables.version, publications: [publication])
    options.messages = try await connection.has(.decodedMessages)
    options.streaming = isStreaming ? .on : .off
    options.binary = tables.form.format == .binary
    try await connection.startStream(from: slot, at: position, options)
  }

  private func stream(
    _ replication: Connection, state: Connection, apply: @escaping @Sendable (Inbox) async throws -> Void
  ) async throws {
    let inbox = Inbox(bound: monitor.bound)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await receive(from: replication, into: inbox) }
      group.addTask { try await apply(inbox) }
      group.addTask { try await confirm(in: StateStore(state)) }
      group.addTask { try await keepInformed(replication) }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  private func receive(from replication: Connection, into inbox: Inbox) async throws {
    while true {
      let received = try await replication.receiveMessages(
        limit: Self.receivedBytes, patience: .milliseconds(200), doing: "receiving the stream")
      if !received.messages.isEmpty { await inbox.put(received) }
      try Task.checkCancellation()
      if !monitor.isAwaited, let pause = Self.pause(after: received.bytes.count) {
        try await Task.sleep(for: pause)
      }
      if received.isEnded {
        throw PostgresError(
          code: .connection, action: "receiving the stream", message: "the \(direction.from) ended the stream"
        )
      }
    }
  }

  /// How long messages are left to gather in the socket. The source sends each by itself: read at once, they
  /// cost both sides more than everything else; the source's kernel joins them only for a slow reader. A
  /// stream that is behind can wait longer than one that is not.
  private static func pause(after bytes: Int) -> Duration? {
    switch bytes {
    case ..<(16 << 10): .milliseconds(8)
    case ..<receivedBytes: .milliseconds(10)
    default: nil
    }
  }

  /// Stores on the target what may be confirmed, which also makes earlier commits durable.
  private func confirm(in state: StateStore) async throws {
    while true {
      if let lsn = monitor.feedback.toStore {
        try await state.store(confirmedLSN: lsn)
        monitor.stored(lsn)
      }
      try await Task.sleep(for: .seconds(1))
    }
  }

  /// Independent of the other tasks, so that the source hears from us whatever the target does (manual,
  /// section 20.6 `wal_sender_timeout`). The flushed position is reported and withdrawn at once: the slot is
  /// confirmed, and no commit on the source waits for us where `synchronous_standby_names` matches every
  /// name.
  private func keepInformed(_ replication: Connection) async throws {
    while true {
      let now = PostgresTime(unixMicroseconds: Int64(Date().timeIntervalSince1970 * 1_000_000))
      // The reply, a keepalive, shows how far an idle source has got.
      let update = monitor.feedback.update(at: now, replyRequested: true)
      try await replication.sendMessages(
        [update.encoded, update.withoutConfirmation.encoded], doing: "confirming \(update.flushedLSN)")
      try await Task.sleep(for: .seconds(1))
    }
  }
}
