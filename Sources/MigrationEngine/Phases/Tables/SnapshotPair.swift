import LibPQ
import Logging
import LogicalReplication

/// Snapshots of both ends at one LSN of the stream, while the stream continues.
///
/// Creating a slot gives the snapshot of the end that changes come from, but its LSN may be known too late:
/// by then the stream could have applied later changes. So while the slot is created, which waits for open
/// transactions, the stream is held a moment behind its source. Once the LSN is known, the stream advances to
/// exactly there, the other end's snapshot is taken, and the stream is released.
struct SnapshotPair: Sendable {
  /// Transactions that committed before it are in both snapshots, others in neither.
  let lsn: LSN
  /// Of the end that changes come from.
  let from: ExportedSnapshot
  /// Of the end that changes go to.
  let to: ExportedSnapshot

  func release() async {
    await from.release()
    await to.release()
  }
}

/// Takes pairs of snapshots.
struct SnapshotPairing: Sendable {
  let direction: Direction
  /// The end that changes come from.
  let from: ConnectionString
  /// The end that changes go to.
  let to: ConnectionString
  let monitor: StreamMonitor
  let logger: Logger
  /// How long to wait for each open transaction on the end that changes come from.
  var slotLimit = Duration.seconds(60)
  /// Called when everything that commits before the LSN is applied, and nothing else.
  var onHeld: @Sendable (LSN) -> Void = { _ in }

  /// How far the stream is held behind its source while the slot is created: more each time it was not
  /// enough.
  private static let distances: [Duration] = [100, 100, 200, 400, 800].map { .milliseconds($0) }
  private static let pulse = Duration.milliseconds(15)
  /// As a rule, what is before the LSN is already applied.
  private static let reachLimit = Duration.seconds(30)

  /// - Throws: `MigrationError` when open transactions prevent the slot, or the stream does not reach the
  ///   snapshot's LSN.
  func take() async throws -> SnapshotPair {
    for distance in Self.distances {
      do {
        if let pair = try await attempt(distance) { return pair }
      } catch let error as OpenTransactions {
        throw error.error
      }
      logger.info(
        "the stream had passed the snapshot's LSN; taking another", metadata: ["behind": "\(distance)"])
    }
    throw knownTooLate
  }

  /// Only of the end that changes come from: nothing that commits at or after its LSN is applied until the
  /// limit is lifted.
  /// - Throws: `OpenTransactions` when these prevent the slot.
  func takeFirst() async throws -> ExportedSnapshot {
    for distance in Self.distances {
      do {
        let observer = try await session(from, direction.from)
        let snapshot = try await closing(observer) { try await slot(distance, observer) }
        if let snapshot { return snapshot }
      } catch {
        monitor.bound.lift()
        throw error
      }
      monitor.bound.lift()
    }
    throw knownTooLate
  }

  private var knownTooLate: MigrationError {
    MigrationError(
      .failed, doing: "looking at the \(direction.from) at one LSN",
      reason: "its snapshot's LSN was known too late, several times",
      remedy: "Try again when the \(direction.from) has less to do.")
  }

  /// - Returns: nil when the stream had gone too far already.
  private func attempt(_ distance: Duration) async throws -> SnapshotPair? {
    let observer = try await session(from, direction.from)
    return try await closing(observer) {
      // Opened now, so that the stream need not wait for it.
      let other = try await session(to, direction.to)
      let taken: (slot: ExportedSnapshot, to: ExportedSnapshot)?
      do {
        defer { monitor.bound.lift() }
        taken = try await held(distance, observer, other)
      } catch {
        await other.close()
        throw error
      }
      guard let (slot, to) = taken else {
        await other.close()
        return nil
      }
      do {
        let holder = try await session(from, direction.from)
        return SnapshotPair(lsn: slot.lsn, from: try await slot.moved(to: holder), to: to)
      } catch {
        await slot.release()
        await to.release()
        throw error
      }
    }
  }

  /// Both snapshots, one of them from a slot; the caller releases the stream.
  private func held(
    _ distance: Duration, _ observer: Connection, _ other: Connection
  ) async throws -> (slot: ExportedSnapshot, to: ExportedSnapshot)? {
    guard let slot = try await slot(distance, observer) else { return nil }
    let known = ContinuousClock.now
    do {
      try await reach(slot.lsn, observer)
      onHeld(slot.lsn)
      let taken = try await ExportedSnapshot.current(in: other, at: slot.lsn)
      logger.debug(
        "snapshots of both ends", metadata: ["behind": "\(distance)", "then held for": "\(.now - known)"])
      return (slot, taken)
    } catch {
      await slot.release()
      throw error
    }
  }

  /// A slot's snapshot, with the stream held at its LSN.
  private func slot(_ distance: Duration, _ observer: Connection) async throws -> ExportedSnapshot? {
    var trail = PositionTrail(distance: distance)
    monitor.bound.move(to: trail.note(monitor.bound.arrivedLSN, at: .now))
    let (slot, isInTime) = try await withThrowingTaskGroup(of: ExportedSnapshot?.self) { [trail] group in
      group.addTask {
        try await ReplicationSlot.temporarySnapshot(on: from, observer: observer, within: slotLimit)
      }
      group.addTask {
        var trail = trail
        while true {
          try await Task.sleep(for: Self.pulse)
          monitor.bound.move(to: trail.note(monitor.bound.arrivedLSN, at: .now))
        }
      }
      defer { group.cancelAll() }
      guard let slot = try await group.next() ?? nil else { throw CancellationError() }
      // At once: the limit keeps moving.
      return (slot, isInTime: monitor.bound.fix(at: slot.lsn))
    }
    if isInTime { return slot }
    await slot.release()
    return nil
  }

  /// Waits until the stream has applied everything before the fixed bound.
  private func reach(_ lsn: LSN, _ observer: Connection) async throws {
    // Where nobody writes nothing would tell that there is nothing.
    try await observer.emit(
      MessagePrefix.snapshot, "", noting: monitor.messages,
      doing: "writing a message after the snapshot", within: .seconds(15))
    let deadline = ContinuousClock.now + Self.reachLimit
    while !monitor.hasReachedBound(at: lsn) {
      guard ContinuousClock.now < deadline else {
        let reading = monitor.reading
        throw MigrationError(
          .failed, doing: "looking at both ends at one LSN",
          reason: reading.waitsFor.map { "the stream waits: \($0)" }
            ?? "the stream is \(lsn.distance(from: reading.feedback.confirmableLSN)) bytes before \(lsn)",
          remedy: "Try again when replicate status shows a small lag.")
      }
      try await Task.sleep(for: .milliseconds(1))
    }
  }

  private func session(_ string: ConnectionString, _ end: String) async throws -> Connection {
    let connection = try await Session.open(string, end: end, purpose: "verify")
    do {
      // A message need not wait for a standby; but a walsender sends only what is flushed.
      try await connection.query("SET synchronous_commit = local", doing: "preparing a session")
      return connection
    } catch {
      await connection.close()
      throw error
    }
  }
}

/// Records positions of a stream, to know where it was a while ago. Pure.
struct PositionTrail: Sendable {
  let distance: Duration
  private var positions: [(lsn: LSN, at: ContinuousClock.Instant)] = []

  init(distance: Duration) { self.distance = distance }

  /// - Returns: where it was `distance` ago, or at first.
  mutating func note(_ lsn: LSN, at now: ContinuousClock.Instant) -> LSN {
    positions.append((lsn, now))
    while positions.count > 1, now - positions[1].at >= distance { positions.removeFirst() }
    return positions[0].lsn
  }
}
