import Foundation
import LibPQ
import Logging
import LogicalReplication

/// The stream has come to changes of a table that was created during the migration: it must join first.
struct NewTable: Error {
  var error: MigrationError
}

/// The stream has come to changes of a table as neither end has it any more: its rows must be copied again.
struct OutdatedTable: Error {
  var sourceOID: UInt32
  var error: MigrationError
}

/// All snapshots of tables are passed: open transactions can be streamed from now on.
private struct SnapshotsPassed: Error {}

/// One run of the stream: START_REPLICATION until it is told to stop, with tasks that do not wait for each
/// other longer than they must: one receives, one applies, one confirms, one keeps the source informed. Here
/// `source` is the end that changes come from and `target` the one that they go to, whichever way that is.
struct StreamSession: Sendable {
  let leg: Leg.Addresses
  let slot: SlotName
  let publication: String
  /// Reads what both ends have now.
  let tables: @Sendable () async throws -> StreamTables
  let monitor: StreamMonitor
  let logger: Logger

  private var direction: Direction { leg.direction }

  /// What is received at once, a row larger than this by itself.
  private static let receivedBytes = 256 << 10

  /// Streams until the task is cancelled; whatever is not committed on the target then comes again. Where a
  /// table's definition differs it stops, tells, and goes on once the ends fit together again; where rows in
  /// binary do not do, they come again as text.
  /// - Parameter end: return once everything before it is applied.
  /// - Throws: `NewTable` when it cannot go on before a table is there, `OutdatedTable` before one was copied
  ///   again.
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
        logger.info("streaming again from where the \(direction.to) stands now")
      } catch let error where Applier.isRefusal(error) {
        // What refuses a change may be that it is there already, or that the table is another one by now.
        var isOutdated = try await hasMoved()
        if !isOutdated { isOutdated = try await tablesHaveChanged() }
        guard isOutdated else {
          guard let unknown = error as? PostgresError, unknown.isUnknownName else { throw error }
          // A row may name what comes with another table, or is built later: an index, say, as regclass.
          let remedy = "Make it on the \(direction.to), and the stream goes on by itself."
          if monitor.isStuck(at: "\(unknown). \(remedy)") {
            logger.warning("the stream waits", metadata: ["for": "\(unknown)"])
          }
          try await Task.sleep(for: Self.definitionPoll)
          continue
        }
        logger.info(
          "streaming again from where the \(direction.to) stands now", metadata: ["because": "\(error)"])
      }
    }
  }

  /// How long until a login is tried again that was refused.
  private static let loginPause = Duration.seconds(2)

  /// A run needs new sessions. An end that lets none in while it keeps those that the engine has is waited
  /// for.
  private func waitForLogin(_ error: PostgresError) async throws {
    if monitor.isKeptOut("the stream cannot begin anew, which is tried again: \(error)") {
      logger.warning("the stream waits to be let in", metadata: ["why": "\(error)"])
    }
    try await Task.sleep(for: Self.loginPause)
  }

  /// Says what must be done, until it is.
  private func waitForTheEnd(of difference: DefinitionDifference) async throws {
    defer { monitor.waits(for: nil) }
    var told: String?
    // What the ends have now may be more than the stream knew when it began.
    while let error = try await remains(difference) {
      if told != error.description {
        logger.warning("the stream waits", metadata: ["for": "\(error)"])
        monitor.waits(for: error.description)
        told = error.description
      }
      try await Task.sleep(for: Self.definitionPoll)
    }
    logger.info("the stream goes on", metadata: ["after": "\(difference.error.action)"])
  }

  /// How often it is looked whether a table is now what it must be.
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

  /// Whether a session that was given up has committed after all.
  private func hasMoved() async throws -> Bool {
    let state = try await Session.open(leg.to, end: direction.to, purpose: "confirm")
    return try await closing(state) {
      try await progress(in: state).appliedLSN != monitor.feedback.appliedLSN
    }
  }

  /// Whether a table to which changes were applied is to be copied again first.
  private func tablesHaveChanged() async throws -> Bool {
    !monitor.tables.isSubset(of: try await tables().snapshots.keys)
  }

  private func progress(in state: Connection) async throws -> StoredProgress {
    guard let progress = try await StateStore(state).settledProgress() else {
      throw MigrationError(
        .failed, doing: "reading where the stream stands on the \(direction.to)",
        reason: "replicate.progress has lost its row",
        remedy: "Somebody changed schema replicate of the \(direction.to). \(direction.startOver)")
    }
    return progress
  }

  /// - Parameter streamsFrom: transactions are sent before they have committed when the run begins at or
  ///   beyond it.
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
          "the \(direction.to) does not take settings of its users, and evaluates their checks without them",
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

  /// Looks whether the source can be the one that was followed, before anything is asked of it.
  private func verify(
    _ replication: Connection, _ progress: StoredProgress, _ tables: StreamTables, _ state: Connection
  ) async throws {
    let history = try await SourceHistory.read(from: replication)
    // What the way back begins with is no position of a stream, nor are its snapshots.
    let followed = progress.anchor == nil ? .zero : progress.appliedLSN
    try history.verify(
      reaches: direction == .forward ? max(followed, tables.newestSnapshotLSN) : followed, direction)
    guard history.timeline != progress.timeline else { return }
    try await StateStore(state).store(timeline: history.timeline)
    guard let before = progress.timeline else { return }
    let what = "the \(direction.from) has gone from timeline \(before) of its WAL to \(history.timeline)"
    logger.notice("\(what)")
    // The trail of events is on the target, whichever way the stream leads.
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
    let command = ReplicationCommand.start(slot: slot, at: position, options: options)
    let deadline = ContinuousClock.now + .seconds(30)
    while true {
      do {
        return try await connection.startCopyBoth(command, doing: "starting the stream from slot \(slot)")
      } catch let error as PostgresError where error.sqlState == .objectInUse && .now < deadline {
        // The walsender of an engine that was killed has only now come to it, and will notice.
        try await Task.sleep(for: .milliseconds(200))
      }
    }
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

  /// How long messages are left to gather in the socket. The source sends each by itself: read as they come,
  /// they cost both sides more than the rest of the way, and only behind a reader who is slow does the
  /// source's kernel join them. A stream that is behind can wait longer than one that is not.
  private static func pause(after bytes: Int) -> Duration? {
    switch bytes {
    case ..<(16 << 10): .milliseconds(8)
    case ..<receivedBytes: .milliseconds(10)
    default: nil
    }
  }

  /// Stores on the target what may be confirmed, which also makes durable what was committed before.
  private func confirm(in state: StateStore) async throws {
    while true {
      if let lsn = monitor.feedback.toStore {
        try await state.store(confirmedLSN: lsn)
        monitor.stored(lsn)
      }
      try await Task.sleep(for: .seconds(1))
    }
  }

  /// Keeps to itself, so that the source hears from us whatever the target does (manual, section 20.6
  /// `wal_sender_timeout`). What is flushed is reported and taken back in one breath: the slot is confirmed,
  /// and no commit of the source's users waits for us where `synchronous_standby_names` has a name for all.
  private func keepInformed(_ replication: Connection) async throws {
    while true {
      let now = PostgresTime(unixMicroseconds: Int64(Date().timeIntervalSince1970 * 1_000_000))
      // The reply, a keepalive, says how far an idle source has come.
      let update = monitor.feedback.update(at: now, replyRequested: true)
      try await replication.sendMessages(
        [update.encoded, update.withoutConfirmation.encoded], doing: "confirming \(update.flushedLSN)")
      try await Task.sleep(for: .seconds(1))
    }
  }
}
