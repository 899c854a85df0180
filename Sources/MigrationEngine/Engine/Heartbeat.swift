import LibPQ
import Logging
import LogicalReplication

/// Twice a second: observes the end that changes come from, publishes the status on the target, and takes the
/// requests of other commands.
struct Heartbeat: Sendable {
  /// The end that changes come from: after the cutover the target.
  let source: ConnectionString
  let direction: Direction
  /// The end that changes go to; nil when the engine's lock is there.
  let receiver: ConnectionString?
  /// On the connection that holds the engine's lock: this notices when it is lost.
  let control: StateStore
  let board: StatusBoard
  let logger: Logger
  let onProgress: @Sendable (Status) -> Void

  private static let interval = Duration.milliseconds(500)

  /// Runs until it is cancelled.
  /// - Throws: also when `replicate abort` asks the engine to stop.
  func beat() async throws {
    var eye = Eye(locksFrom: LockWatch(end: direction.from), locksTo: LockWatch(end: direction.to))
    do {
      try await tick(&eye)
    } catch {
      await eye.source?.close()
      await eye.receiver?.close()
      throw error
    }
  }

  /// The session that observes the source.
  private struct Eye {
    var source: Connection?
    /// When a refused login is retried.
    var nextLogin = ContinuousClock.now
    var watch = SlotWatch()
    var receiver: Connection?
    var locksFrom: LockWatch
    var locksTo: LockWatch
  }

  private func tick(_ eye: inout Eye) async throws {
    var count = 0
    while true {
      do {
        try await look(&eye, beats: count.isMultiple(of: 2))
      } catch  where !board.needsSource && !Task.isCancelled {
        logger.warning(
          "the \(direction.from) is lost, and no longer needed", metadata: ["why": "\(error)"])
        await eye.source?.close()
        eye.source = nil
      }
      if count.isMultiple(of: 2) { try await lookForLocks(&eye) }
      let status = board.status
      try await publish(status)
      onProgress(status)
      if try await control.isAbortRequested() {
        throw MigrationError(
          .failed, doing: "migrating", reason: "replicate abort asked this engine to stop",
          remedy: "Nothing: the abort continues by itself.")
      }
      count += 1
      try await Task.sleep(for: Self.interval)
    }
  }

  /// A target that has no room for it now may have some later; the stream gets the same error.
  private func publish(_ status: Status) async throws {
    do {
      try await control.publish(status)
    } catch let error as PostgresError where error.mayPass {
      logger.debug("the status could not be published", metadata: ["why": "\(error)"])
    }
  }

  /// Whose locks the engine waits for, on either end.
  private func lookForLocks(_ eye: inout Eye) async throws {
    if let receiver, eye.receiver == nil, .now >= eye.nextLogin {
      do {
        eye.receiver = try await Session.open(receiver, end: direction.to, purpose: "monitor")
      } catch let error as PostgresError {
        eye.nextLogin = .now + Self.loginPause
        logger.debug("not looking for locks", metadata: ["why": "\(error)"])
      }
    }
    if let source = eye.source { try await look(&eye.locksFrom, source, direction.from) }
    try await look(&eye.locksTo, receiver == nil ? control.connection : eye.receiver, direction.to)
  }

  private func look(_ watch: inout LockWatch, _ connection: Connection?, _ end: String) async throws {
    guard let connection else { return }
    do {
      let lock = try await watch.look(in: connection)
      if board.waits(for: lock, at: end), let lock {
        logger.warning("somebody's lock is in the way", metadata: ["what": "\(lock)"])
      }
    } catch let error as PostgresError where !error.isConnectionLoss || connection !== control.connection {
      // Those who need the end notice its loss themselves.
      logger.debug("could not look for locks", metadata: ["why": "\(error)"])
    }
  }

  /// How long until a refused login is retried.
  private static let loginPause = Duration.seconds(2)

  /// The stream, which has a session of its own, shows whether the source is there. A refused new session, as
  /// when a password has expired, is no reason to end it.
  private func look(_ eye: inout Eye, beats: Bool) async throws {
    if eye.source == nil {
      guard board.needsSource, .now >= eye.nextLogin else { return }
      do {
        eye.source = try await open()
        board.sees()
      } catch let error as PostgresError where error.isAnswered && board.stream != nil {
        eye.nextLogin = .now + Self.loginPause
        if board.loses(because: error.message, direction.from) {
          logger.warning(
            "the \(direction.from) admits no new session; trying again, and the stream continues meanwhile",
            metadata: ["why": "\(error)"])
        }
        return
      }
    }
    guard let source = eye.source else { return }
    do {
      try await ask(source, beats: beats, &eye.watch)
    } catch let error as PostgresError
      where (error.isConnectionLoss || error.mayPass) && board.stream != nil && board.needsSource
    {
      logger.info("lost the session that watches the \(direction.from)", metadata: ["why": "\(error)"])
      await source.close()
      eye.source = nil
    }
  }

  private func open() async throws -> Connection {
    let source = try await Session.open(source, end: direction.from, purpose: "monitor")
    // A heartbeat need not wait for a standby of the source.
    try await source.query("SET synchronous_commit = local", doing: "preparing the heartbeat")
    return source
  }

  private func ask(_ source: Connection, beats: Bool, _ watch: inout SlotWatch) async throws {
    if beats, let stream = board.stream {
      let beat = stream.nextBeat()
      let lsn = try await source.emit(
        MessagePrefix.heartbeat, String(beat), noting: stream.messages,
        doing: "writing a heartbeat on the \(direction.from)", within: .seconds(30))
      if let lsn = LSN(lsn) { stream.wrote(beat, at: lsn) }
    }
    try await look(at: source)
    try warn(of: board.status.slot, &watch)
  }

  private func warn(of slot: Status.Slot, _ watch: inout SlotWatch) throws {
    let verdict = watch.look(
      status: slot.status, retainedBytes: slot.retainedBytes, safeBytes: slot.safeBytes)
    switch verdict {
    case .fine: break
    case .warning(let words): logger.warning("\(words)", metadata: ["slot": "\(slot.name)"])
    case .lost:
      throw MigrationError(
        .failed, doing: "watching replication slot \(slot.name)",
        reason: """
          it was lost: the \(direction.from) has removed WAL that it still needed (max_slot_wal_keep_size)
          """,
        remedy: direction == .forward
          ? """
          Run replicate abort --drop-target-data, raise max_slot_wal_keep_size on the source \
          (-1: no limit), and begin again.
          """ : "No rollback is possible any more: run replicate finish.")
    }
  }

  private func look(at source: Connection) async throws {
    let rows = try await source.query(
      """
      SELECT w.lsn, s.slot_name, s.wal_status, s.restart_lsn, s.safe_wal_size
      FROM (SELECT pg_catalog.pg_current_wal_lsn() AS lsn) w
        LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1
      """, [board.status.slot.name], doing: "reading the slot's state", within: .seconds(30))
    guard let row = rows.first, let told = LSN(try row.text("lsn")) else { return }
    let lsn = board.stream?.streamed(told) ?? told
    board.sample(sourceLSN: lsn)
    let state = try row.optional("wal_status") ?? ""
    let retained = try row.optional("restart_lsn").flatMap(LSN.init).map { lsn.distance(from: $0) } ?? 0
    let safe = try row.optional("safe_wal_size").flatMap(Int64.init)
    board.update {
      $0.slot.status = state
      $0.slot.retainedBytes = max(0, retained)
      $0.slot.safeBytes = safe
    }
  }
}
