import AsyncAlgorithms
import Foundation
package import LibPQ
package import LogicalReplication

/// One run of the stream: START_REPLICATION until it is told to stop, with three tasks that do not wait for
/// each other longer than they must: one receives, one applies, one keeps the source informed.
package struct StreamSession: Sendable {
  private let source: ConnectionString
  private let target: ConnectionString
  private let slot: SlotName
  private let publication: String
  private let tables: StreamTables
  private let monitor: StreamMonitor

  package init(
    source: ConnectionString, target: ConnectionString, slot: SlotName, publication: String,
    tables: StreamTables, monitor: StreamMonitor
  ) {
    self.source = source
    self.target = target
    self.slot = slot
    self.publication = publication
    self.tables = tables
    self.monitor = monitor
  }

  /// Memory of the stream: a chunk that is being received, one that waits, one that is applied. A row larger
  /// than this makes a chunk of its own size.
  private static let chunkBytes = 1 << 20

  /// Streams until the task is cancelled; whatever is not committed on the target then comes again.
  /// - Parameter end: return once everything before it is applied.
  package func run(until end: LSN? = nil) async throws {
    let observer = try await Session.open(source, end: "source", purpose: "slot")
    try await SlotClaim(slot: slot, feedback: monitor.feedback).verify(on: observer)
    await observer.close()
    let replication = try await startReplication()
    let target = try await Session.open(target, end: "target", purpose: "apply")
    let state = try await Session.open(self.target, end: "target", purpose: "confirm")
    try await closing(replication, target, state) {
      try await stream(replication, target: target, state: state, until: end)
    }
  }

  private func startReplication() async throws -> Connection {
    let connection = try await Session.openReplication(source)
    var options = PgOutputOptions(version: .one, publications: [publication])
    options.messages = true
    let command = ReplicationCommand.start(slot: slot, at: monitor.feedback.appliedLSN, options: options)
    let deadline = ContinuousClock.now + .seconds(30)
    while true {
      do {
        try await connection.startCopyBoth(command, doing: "starting the stream from slot \(slot)")
        return connection
      } catch let error as PostgresError where error.sqlState == .objectInUse && .now < deadline {
        // The walsender of an engine that was killed has not noticed yet.
        try await Task.sleep(for: .milliseconds(200))
      }
    }
  }

  private func stream(
    _ replication: Connection, target: Connection, state: Connection, until end: LSN?
  ) async throws {
    let chunks = AsyncChannel<CopyMessages>()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await receive(from: replication, into: chunks) }
      group.addTask { try await apply(chunks, to: target, until: end) }
      group.addTask { try await keepInformed(replication, state: StateStore(state)) }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  private func receive(from replication: Connection, into chunks: AsyncChannel<CopyMessages>) async throws {
    while true {
      let chunk = try await replication.receiveMessages(
        limit: Self.chunkBytes, patience: .milliseconds(200), doing: "receiving the stream")
      if !chunk.messages.isEmpty { await chunks.send(chunk) }
      try Task.checkCancellation()
      if chunk.isEnded {
        throw PostgresError(
          code: .connection, action: "receiving the stream", message: "the source ended the stream")
      }
    }
  }

  private func apply(
    _ chunks: AsyncChannel<CopyMessages>, to target: Connection, until end: LSN?
  ) async throws {
    var applier = try await Applier(target: target, tables: tables, monitor: monitor)
    for await chunk in chunks {
      try await applier.apply(chunk)
      if let end, monitor.feedback.confirmableLSN >= end { return }
    }
    try Task.checkCancellation()
  }

  private func keepInformed(_ replication: Connection, state: StateStore) async throws {
    while true {
      if let lsn = monitor.feedback.toStore {
        try await state.store(confirmedLSN: lsn)
        monitor.stored(lsn)
      }
      let now = PostgresTime(unixMicroseconds: Int64(Date().timeIntervalSince1970 * 1_000_000))
      // The reply, a keepalive, tells how far an idle source has come.
      let update = monitor.feedback.update(at: now, replyRequested: true)
      try await replication.sendMessage(update.encoded, doing: "confirming \(update.flushedLSN)")
      try await Task.sleep(for: .seconds(1))
    }
  }
}
